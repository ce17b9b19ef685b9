"""Flags, files and defaults to options; every mistake told with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import InputError
from headrace.options import Options, parse_arguments, parse_mapping
from headrace.options.parse import GROUPS, known_flags
from headrace.options.training import REMOVED, training_flags

RECIPE = (
    "--dataset_streaming true --do_train --eval_strategy no --dataset_name HuggingFaceFW/fineweb "
    "--dataset_config_name CC-MAIN-2024-10 --dataset_group_text true --dataloader_num_workers 8 --max_steps 2500 "
    "--model_name_or_path openai-community/gpt2 --output_dir /output-checkpoint --per_device_train_batch_size 8 "
    "--logging_steps 50 --save_steps 1000"
)


def parse(*argv: str) -> Options:
    return parse_arguments(argv, prog="headrace train", description="d", example="  e", groups=list(GROUPS))


def test_the_recipe_as_it_is_written() -> None:
    options = parse(*RECIPE.split())
    assert options.dataset.dataset_name == "HuggingFaceFW/fineweb" and options.dataset.dataset_streaming is True
    assert options.model.model_name_or_path == "openai-community/gpt2"
    assert options.training == {
        "do_train": True, "eval_strategy": "no", "dataloader_num_workers": 8, "max_steps": 2500,
        "output_dir": "/output-checkpoint", "per_device_train_batch_size": 8, "logging_steps": 50, "save_steps": 1000,
    }  # fmt: skip
    assert {"max_steps", "dataset_name"} <= options.given and "seed" not in options.given


def test_rows_12_to_30_are_flags() -> None:
    names = """dataset_name dataset_config_name tokenized_dataset_save_dir tokenized_dataset_load_dir
    dataset_train_split dataset_test_split dataset_text_field dataset_max_seq_length dataset_num_proc
    dataset_group_text dataset_group_text_validation dataset_block_size dataset_streaming model_name_or_path
    torch_dtype attn_implementation max_train_samples max_eval_samples resume_from_checkpoint"""
    assert set(names.split()) <= set(known_flags())


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--max-steps=5"], "max_steps", 5),
        (["--learning_rate", "3e-4"], "learning_rate", 3e-4),
        (["--learning_rate", "-1"], "learning_rate", -1.0),
        (["--bf16"], "bf16", True),
        (["--bf16", "no"], "bf16", False),
        (["--label_names", "a", "b"], "label_names", ["a", "b"]),
        (["--lr_scheduler_kwargs", '{"a": 1}'], "lr_scheduler_kwargs", {"a": 1}),
        (["--no_do_train"], "do_train", False),
    ],
)
def test_values_become_what_their_flag_is(argv: list[str], name: str, value: Any) -> None:
    assert parse(*argv).training[name] == value


def test_a_file_and_flags_that_win(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("max_steps: 10\nlearning_rate: 1e-3\ndataset_streaming: false\nlanes: null\nsample_prompt: [a]\n")
    options = parse("--config", str(path), "--max_steps", "20")
    assert options.training == {"max_steps": 20, "learning_rate": 1e-3}
    assert options.dataset.dataset_streaming is False and options.dataset.lanes is None
    assert options.train.sample_prompt == ["a"]
    path.with_suffix(".json").write_text(json.dumps({"max_steps": 7.0}))
    assert parse("--config", str(path.with_suffix(".json"))).training == {"max_steps": 7}


@pytest.mark.parametrize(
    ("argv", "said", "remedy"),
    [
        (["--max_step", "5"], "no flag is called --max_step (nearest: max_steps", "--help_all"),
        (["--evaluation_strategy", "no"], "gone from TrainingArguments", "use eval_strategy"),
        (["--save_safetensors"], "gone from TrainingArguments", "always written"),
        (["--max_steps", "many"], "wants a whole number, found 'many'", "--help"),
        (["--max_steps", "1.5"], "wants a whole number", "--help"),
        (["--bf16", "maybe"], "wants true or false", "--help"),
        (["--eval_strategy", "step"], "nearest: steps", ""),
        (["--heldout_fraction", "1.5"], "0 or more and below 1", ""),
        (["--lanes", "0"], "1 or more", ""),
        (["stray"], "found 'stray' where a --flag was expected", ""),
        (["--config", "/none.yaml"], "cannot read --config", ""),
        (["--lr_scheduler_kwargs", "{"], "wants a JSON object", "--help"),
    ],
)
def test_mistakes_are_told(argv: list[str], said: str, remedy: str) -> None:
    with pytest.raises(InputError) as found:
        parse(*argv)
    assert said in found.value.message and remedy in found.value.remedy


@pytest.mark.parametrize("content", ["- a list", "a: [", "max_stepz: 1"])
def test_mistakes_in_a_file_are_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(InputError):
        parse("--config", str(tmp_path / "c.yaml"))


def test_removed_names_are_really_gone() -> None:
    assert not (set(REMOVED) & set(training_flags())) and "evaluation_strategy" in REMOVED


def test_every_default_of_a_file_means_the_default() -> None:
    assert parse_mapping({"dataset_streaming": None, "heldout_fraction": None}).dataset == Options().dataset


def test_help_is_grouped_and_has_an_example(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as left:
        parse_arguments(["--help"], prog="headrace x", description="d", example="  e", groups=["dataset", "training"])
    shown = capsys.readouterr().out
    assert left.value.code == 0 and "dataset:" in shown and "example:\n  e" in shown
    assert "--max_steps" in shown and "--adam_beta1" not in shown and "--wandb_project" not in shown
    assert len(shown.splitlines()) < 100
    with pytest.raises(SystemExit):
        parse("--help_all")
    assert "--adam_beta1" in capsys.readouterr().out


def test_the_table_of_training_arguments_is_that_of_transformers() -> None:
    from headrace.train import flags

    path = Path(flags.__file__).parents[1] / "options" / "training_arguments.json"
    assert path.read_text("utf-8") == flags.rendered(), "run: python -m headrace.train.flags"
