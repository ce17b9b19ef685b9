"""The training step in this process: what it leaves, how it goes on, what it refuses."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.artifacts.checkpoint import COMMIT, CheckpointRef, committed, fetch, read_commit, verify
from headrace.audit import peek
from headrace.audit import verify as verify_order
from headrace.errors import InputError
from headrace.stream.tokenizer import load_encoder
from tests.train.conftest import PYDOCS, Train, logged, losses, sha, strict


def test_a_training_leaves_what_hf_leaves_and_its_own(finished: Path) -> None:
    for name in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json",
                 "tokenizer_config.json", "trainer_state.json", "train_results.json", "all_results.json",
                 "headrace.json", "manifest.json", "heldout.parquet", "commit.json", "checkpoint.json",
                 "outcome.json", "progress.json"):  # fmt: skip
        assert (finished / name).is_file(), name
    assert [record.step for _, record in committed(finished).found] == [6, 4, 2]
    results = strict(finished / "train_results.json")
    assert results["train_samples"] == 24 and results["train_tokens"] == 24 * 64
    assert 0 < results["train_loss"] < 9
    every = strict(finished / "all_results.json")
    assert every["eval_samples"] == 2 and every["train_loss"] == results["train_loss"]
    assert every["eval_perplexity"] == pytest.approx(math.exp(every["eval_loss"]))
    record = strict(finished / "headrace.json")
    assert record["steps"] == 6 and record["tokens"] == 24 * 64 and record["lanes"] == 4
    assert [entry["step"] for entry in record["history"]] == [3, 6]
    assert record["dataset"]["rows"] == 57 and record["heldout"]["documents"] == 2
    assert record["parent"]["random_weights"] is True and record["parent"]["resumed_from"] is None
    assert record["dataset"]["sources"][0]["weight"] == 1 and record["hardware"]["cores"] >= 1
    assert len(record["lock_sha256"]) == 64
    assert strict(finished / "progress.json")["phase"] == "finished"


def test_d1_and_d8_the_tokenizer_is_saved_as_it_is_and_its_pad_falls_back_to_eos(finished: Path, tiny: Path) -> None:
    from transformers import AutoTokenizer

    saved = AutoTokenizer.from_pretrained(str(finished))
    assert saved.pad_token == saved.eos_token == "<|endoftext|>"
    assert load_encoder(str(finished)).hash == load_encoder(str(tiny)).hash


def test_d6_every_json_file_is_strict(finished: Path) -> None:
    for path in finished.rglob("*.json"):
        strict(path)


def test_d6_an_overflowing_perplexity_is_null_with_a_note(train: Train, tmp_path: Path) -> None:
    # Steps this large drive the loss beyond what exp can hold.
    train(tmp_path / "out", do_eval=True, learning_rate=1e4, max_grad_norm=1e9, lr_scheduler_type="constant")
    results = strict(tmp_path / "out" / "eval_results.json")
    assert results["eval_loss"] > 710
    assert results["eval_perplexity"] is None and "inf" in results["eval_perplexity_note"]


def test_the_final_model_is_committed_and_can_be_fetched(finished: Path) -> None:
    record = read_commit(finished)
    verify(finished, record)
    assert record.step == 6 and {"model.safetensors", "headrace.json", "heldout.parquet"} <= set(record.files)
    assert CheckpointRef.read(finished).commit_hash == record.hash
    assert fetch(str(finished), finished).folder == finished
    assert sha(finished / "model.safetensors") == sha(finished / "checkpoint-6" / "model.safetensors")


def test_going_on_from_a_checkpoint_equals_a_run_that_was_never_stopped(
    train: Train, killed: Path, finished: Path
) -> None:
    facts = train(killed, do_eval=True)
    assert facts["resumed_from"] == str(killed / "checkpoint-4")
    for name in ("model.safetensors", "checkpoint-6/model.safetensors", "checkpoint-6/optimizer.pt",
                 "checkpoint-6/scheduler.pt", "checkpoint-6/rng_state.pth"):  # fmt: skip
        assert sha(killed / name) == sha(finished / name), name
    assert logged(killed) == logged(finished)  # step 4 is off the logging grid: the running loss came along
    theirs, ours = strict(finished / "headrace.json"), strict(killed / "headrace.json")
    for name in ("run_id", "plan_hash", "tokens", "loss", "samples", "horizon"):
        assert ours[name] == theirs[name], name
    assert (
        strict(killed / "checkpoint-6" / "data_state.json")["lanes"]
        == (strict(finished / "checkpoint-6" / "data_state.json")["lanes"])
    )


def test_half_written_and_changed_checkpoints_are_passed_over(
    train: Train, killed: Path, finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (killed / "checkpoint-4" / COMMIT).unlink()
    shutil.copytree(finished / "checkpoint-6", killed / "checkpoint-6")
    flipped = bytearray((killed / "checkpoint-6" / "optimizer.pt").read_bytes())
    flipped[-100] ^= 1
    (killed / "checkpoint-6" / "optimizer.pt").write_bytes(flipped)
    with caplog.at_level(logging.WARNING, "headrace"):
        facts = train(killed)
    assert facts["resumed_from"] == str(killed / "checkpoint-2")
    passed = [r.getMessage() for r in caplog.records if "passed over" in r.getMessage()]
    assert any("checkpoint-4" in m for m in passed) and any("optimizer.pt was changed" in m for m in passed)
    assert sha(killed / "model.safetensors") == sha(finished / "model.safetensors")


def test_a_finished_run_started_again_changes_nothing(
    train: Train, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: sha(p) for p in finished.rglob("*") if p.is_file() and p.name not in ("outcome.json", "progress.json")}
    facts = train(finished, do_eval=True)
    assert facts["steps"] == 6 and "nothing left to train" in capsys.readouterr().out
    assert before == {p: sha(p) for p in before}


def test_a_lost_final_model_is_written_again_from_the_last_checkpoint(
    train: Train, killed: Path, finished: Path
) -> None:
    shutil.copytree(finished / "checkpoint-6", killed / "checkpoint-6")
    train(killed, do_eval=True)
    assert sha(killed / "model.safetensors") == sha(finished / "model.safetensors")
    ours, theirs = strict(killed / "train_results.json"), strict(finished / "train_results.json")
    assert ours["train_loss"] == pytest.approx(theirs["train_loss"]) and ours["train_samples"] == 24
    verify(killed, read_commit(killed))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 7}, "seed: 42 → 7"),
        ({"dataset_block_size": 32}, "block: 64 → 32"),
        ({"global_batch_size": 8}, "global_batch: 4 → 8"),
        ({"lanes": 2}, "lanes: 4 → 2"),
        ({"max_train_samples": 20}, "manifest_hash"),
        ({"run_id": "another"}, "--run_id is another"),
    ],
)
def test_another_plan_is_refused_by_name(train: Train, killed: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as found:
        train(killed, **changed)
    assert said in found.value.message


def test_another_model_is_refused_by_name(train: Train, killed: Path, still: Path) -> None:
    with pytest.raises(InputError, match=r"attn_pdrop: 0\.1 → 0\.0"):
        train(killed, model_name_or_path=str(still))


def test_fresh_never_writes_over_a_run(train: Train, killed: Path, tmp_path: Path) -> None:
    for asked in ({"fresh": True}, {"resume_from_checkpoint": "false"}):
        with pytest.raises(InputError, match="nothing is deleted") as found:
            train(killed, **asked)
        assert f"{killed}-2" in found.value.remedy
    with pytest.raises(InputError, match="no committed checkpoint"):
        train(tmp_path / "new", resume_from_checkpoint="true")


def test_a_named_checkpoint_goes_on_in_another_place(train: Train, killed: Path, finished: Path) -> None:
    new = killed.parent / "new"
    facts = train(new, resume_from_checkpoint=str(killed / "checkpoint-2"))
    assert facts["resumed_from"] == str(killed / "checkpoint-2")
    assert sha(new / "model.safetensors") == sha(finished / "model.safetensors")


def test_the_batch_flags_may_change_but_not_the_samples_of_a_step(
    train: Train, killed: Path, finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "headrace"):
        train(killed, per_device_train_batch_size=1, gradient_accumulation_steps=1)
    assert any("accumulation is 4, not the flag's 1" in r.getMessage() for r in caplog.records)
    for name in ("plan_hash", "tokens", "global_batch"):
        assert strict(killed / "headrace.json")[name] == strict(finished / "headrace.json")[name]


def test_save_total_limit_keeps_the_newest_committed(train: Train, tmp_path: Path) -> None:
    train(tmp_path / "out", save_total_limit=1)
    assert [record.step for _, record in committed(tmp_path / "out").found] == [6]


def test_without_checkpoints_the_final_model_alone_says_that_it_ended(
    train: Train, finished: Path, tmp_path: Path
) -> None:
    train(tmp_path / "out", save_strategy="no")
    assert not list((tmp_path / "out").glob("checkpoint-*"))
    assert sha(tmp_path / "out" / "model.safetensors") == sha(finished / "model.safetensors")
    written = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    train(tmp_path / "out", save_strategy="no")
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(InputError, match="nothing is deleted"):
        train(tmp_path / "out", save_strategy="no", fresh=True)


def test_a_longer_training_goes_on_where_the_shorter_ended(train: Train, killed: Path) -> None:
    train(killed, max_steps=5, lr_scheduler_type="constant")
    facts = train(killed, max_steps=7, lr_scheduler_type="constant")
    assert facts["resumed_from"] == str(killed / "checkpoint-5") and facts["steps"] == 7
    assert [record.step for _, record in committed(killed).found] == [7, 6, 5, 4, 2]


def test_weights_to_start_from_are_a_training_output(train: Train, finished: Path, tmp_path: Path) -> None:
    train(tmp_path / "a", model_name_or_path=str(finished), init_from_config=None, max_steps=1)
    train(tmp_path / "b", model_name_or_path=str(finished / "checkpoint-6"), init_from_config=None, max_steps=1)
    assert sha(tmp_path / "a" / "model.safetensors") == sha(tmp_path / "b" / "model.safetensors")
    assert losses(tmp_path / "a") == [] and strict(tmp_path / "a" / "headrace.json")["steps"] == 1
    parents = [strict(tmp_path / name / "headrace.json")["parent"] for name in "ab"]
    assert parents[0]["commit_hash"] == read_commit(finished).hash and parents[0]["model"] == str(finished)
    assert parents[1]["commit_hash"] == read_commit(finished / "checkpoint-6").hash


def test_samples_before_and_after_leave_the_training_as_it_is(train: Train, finished: Path, tmp_path: Path) -> None:
    train(tmp_path / "out", sample_prompt=["The list", "A class"])
    samples = strict(tmp_path / "out" / "headrace.json")["samples"]
    assert [s["prompt"] for s in samples] == ["The list", "A class"]
    assert all(s["before"] != s["after"] for s in samples)
    assert sha(tmp_path / "out" / "model.safetensors") == sha(finished / "model.safetensors")
    # Killed and resumed, with other prompts by mistake, the run keeps what it began with, to the letter.
    shutil.copytree(tmp_path / "out" / "checkpoint-4", tmp_path / "again" / "checkpoint-4")
    train(tmp_path / "again", sample_prompt=["Another"])
    assert strict(tmp_path / "again" / "headrace.json")["samples"] == samples


def test_evaluation_alone_and_in_between(train: Train, finished: Path, tmp_path: Path) -> None:
    """D5: no test split is needed. D11: never more documents than the limit."""
    from_model = {"model_name_or_path": str(finished), "init_from_config": None}
    facts = train(tmp_path / "alone", do_train=False, do_eval=True, **from_model)
    assert facts["eval_loss"] == strict(finished / "eval_results.json")["eval_loss"]
    assert not (tmp_path / "alone" / "model.safetensors").exists()
    train(
        tmp_path / "steps", eval_strategy="steps", eval_steps=4, max_eval_samples=1, load_best_model_at_end=True,
        save_steps=4, max_steps=8,
    )  # fmt: skip
    history = strict(tmp_path / "steps" / "trainer_state.json")["log_history"]
    evaluated = [entry for entry in history if "eval_loss" in entry]
    assert {entry["step"] for entry in evaluated} == {4, 8}
    assert all(entry["eval_samples"] == 1 for entry in evaluated)


def test_without_a_held_out_slice_the_test_split_is_evaluated(train: Train, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    shards = sorted((PYDOCS / "data").glob("*.parquet"))
    for i, shard in enumerate(shards):
        shutil.copy(shard, data / f"{'test' if i == 0 else 'train'}-{i:05d}.parquet")
    train(tmp_path / "out", dataset_name=str(data), heldout_fraction=0, do_eval=True, max_steps=1, max_eval_samples=3)
    assert strict(tmp_path / "out" / "eval_results.json")["eval_samples"] == 3
    with pytest.raises(InputError, match="--heldout_fraction is 0 and there is no test split"):
        train(tmp_path / "none", heldout_fraction=0, do_eval=True)


def test_data_can_be_prepared_alone_and_loaded(train: Train, finished: Path, tmp_path: Path) -> None:
    made = tmp_path / "tokenized"
    facts = train(tmp_path / "prepare", do_train=False, tokenized_dataset_save_dir=str(made))
    assert facts["tokenized"] == str(made)
    train(tmp_path / "out", tokenized_dataset_load_dir=str(made), dataset_name=None)
    assert sha(tmp_path / "out" / "model.safetensors") == sha(finished / "model.safetensors")


def _dataset(folder: Path, texts: list[str | None]) -> str:
    folder.mkdir()
    pq.write_table(pa.table({"text": texts}), folder / "train-00000.parquet")
    return str(folder)


def test_d2_d3_d13_an_epoch_trains_every_token_of_every_document(train: Train, tiny: Path, tmp_path: Path) -> None:
    encoder = load_encoder(str(tiny))
    texts = ["one " * 500, "two", None, "  ", "three four five", "six " * 70]  # 500 words are far beyond 64 tokens
    lengths = [len(encoder.encode([t])[0]) + 1 for t in texts if t and t.strip()]
    train(
        tmp_path / "out", dataset_name=_dataset(tmp_path / "data", texts), num_train_epochs=2, max_steps=None,
        heldout_fraction=0, global_batch_size=8, per_device_train_batch_size=1, lanes=3, logging_steps=1,
    )  # fmt: skip
    results = strict(tmp_path / "out" / "train_results.json")
    assert results["train_tokens"] == 2 * sum(lengths)  # each EOS included, no remainder dropped
    # Towards the end whole micro-batches are filler: 0 of a sum over the step, not NaN of a mean.
    assert all(math.isfinite(loss) and loss > 0 for _, loss in losses(tmp_path / "out"))
    state = strict(tmp_path / "out" / "trainer_state.json")
    assert state["max_steps"] == state["global_step"] == strict(tmp_path / "out" / "headrace.json")["steps"]
    facts = train(
        tmp_path / "out", dataset_name=str(tmp_path / "data"), num_train_epochs=2, max_steps=None,
        heldout_fraction=0, global_batch_size=8, per_device_train_batch_size=1, lanes=3, logging_steps=1,
    )  # fmt: skip
    assert facts["steps"] == state["global_step"]


def test_nothing_to_train_on_is_an_error(train: Train, tmp_path: Path) -> None:
    everything_held_out = _dataset(tmp_path / "data", ["the same " * 100] * 8)
    for how in ({"max_steps": 3}, {"max_steps": None, "num_train_epochs": 1}):
        with pytest.raises(InputError, match="no document to train on"):
            train(tmp_path / "out", dataset_name=everything_held_out, heldout_fraction=0.2, **how)


def test_a_step_without_any_target_does_no_harm(train: Train, tiny: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    encoder = load_encoder(str(tiny))
    words = next(n for n in range(1, 200) if len(encoder.encode([" one" * n])[0]) == 64)
    # 64 tokens and EOS: the second sample of the only lane is a single token, which is no target.
    train(
        tmp_path / "out", dataset_name=_dataset(tmp_path / "data", [" one" * words]), num_train_epochs=1,
        max_steps=None, heldout_fraction=0, global_batch_size=1, per_device_train_batch_size=1, lanes=1,
    )  # fmt: skip
    assert strict(tmp_path / "out" / "train_results.json")["train_tokens"] == 65
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert all(bool(torch.isfinite(w).all()) for w in weights.values())


def test_epoch_strategies_become_steps(train: Train, tiny: Path, tmp_path: Path) -> None:
    train(
        tmp_path / "out", dataset_name=_dataset(tmp_path / "data", [f"{n} two three four " * 100 for n in range(8)]),
        num_train_epochs=2, max_steps=None, save_strategy="epoch", eval_strategy="epoch", lanes=2,
        heldout_fraction=0.2,
    )  # fmt: skip
    record = strict(tmp_path / "out" / "headrace.json")
    steps = [r.step for _, r in committed(tmp_path / "out").found]
    assert steps[0] == record["steps"] and len(steps) in (2, 3)
    assert any("eval_loss" in entry for entry in record["history"])


def test_one_document_a_row(train: Train, tiny: Path, tmp_path: Path) -> None:
    train(tmp_path / "out", dataset_group_text=False, dataset_max_seq_length=32, max_steps=2)
    record = strict(tmp_path / "out" / "headrace.json")
    assert record["plan"]["grouped"] is False and record["block"] == 32 and record["tokens"] <= 2 * 4 * 32


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model_name_or_path": None}, "--model_name_or_path is missing"),
        ({"dataset_name": None}, "--dataset_name is missing"),
        ({"max_eval_samples": 5}, "nothing is evaluated"),
        ({"dataset_block_size": 65}, "at most 64 tokens"),
        ({"init_from_config": None}, "has no weights"),
        ({"do_train": False}, "nothing else to do"),
        ({"max_steps": 0}, "--max_steps is 0"),
        ({"per_device_train_batch_size": 0}, "--per_device_train_batch_size is 0"),
        ({"auto_find_batch_size": True}, "--auto_find_batch_size is not offered"),
        ({"lr_scheduler_type": "nonsense"}, "nonsense"),
        ({"dataset_name": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"store": "ftp://host/x"}, "ftp://host/x"),
        ({"evaluation_strategy": "no"}, "gone from TrainingArguments"),
        ({"torch_dtype": "float33"}, "float33"),
    ],
)
def test_what_cannot_work_is_refused(train: Train, tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as found:
        train(tmp_path / "out", **changed)
    assert said in found.value.message
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_more_ranks_than_lanes_are_refused(tiny: Path, tmp_path: Path, flags: dict[str, Any]) -> None:
    from headrace.options import parse_mapping
    from headrace.train.check import check
    from headrace.train.data import prepare

    options = parse_mapping({**flags, "output_dir": str(tmp_path)})
    with pytest.raises(InputError, match="9 ranks share 4 lanes"):
        prepare(options, tmp_path, check(options), world_size=9, state=None, progress=lambda *_: None)


def test_a_run_can_be_proven_and_looked_into(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify_order.main([str(finished)]) == 0
    assert peek.main(["--step", "6", str(finished)]) == 0
    assert "sample 3" in capsys.readouterr().out


def test_a_mixture_with_filters_is_trained_gone_on_with_and_proven(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(str(p) for p in (PYDOCS / "data").glob("*.parquet"))
    mixed: dict[str, Any] = {
        "lr_scheduler_type": "constant", "dataset_name": None, "dedup": "dataset",
        "dataset_filter": ["characters > 3000"],
        "dataset_mixture": [{"name": files[0], "weight": 2}, {"name": files[1], "weight": 1}],
    }  # fmt: skip
    with pytest.raises(InputError, match="no epoch in common"):
        train(tmp_path / "epochs", **mixed, max_steps=-1)
    train(tmp_path / "whole", **mixed)
    train(tmp_path / "parts", **mixed, max_steps=2)
    train(tmp_path / "parts", **mixed)
    assert sha(tmp_path / "parts" / "model.safetensors") == sha(tmp_path / "whole" / "model.safetensors")
    record = strict(tmp_path / "parts" / "headrace.json")
    assert record["plan"]["mixture"] == [2, 1] and record["plan"]["dedup"].startswith("dataset ")
    assert record["heldout"]["sources"] and set(record["heldout"]["sources"].values()) <= {0, 1}
    assert record["stream"]["dropped"]["characters > 3000"] > 0 and len(record["stream"]["epochs"]) == 2
    assert verify_order.main([str(tmp_path / "parts")]) == 0
    capsys.readouterr()
    assert peek.main(["--step", "1", "--json", str(tmp_path / "parts")]) == 0
    shown = capsys.readouterr().out
    assert files[0].rpartition("/")[2] in shown and files[1].rpartition("/")[2] in shown
    with pytest.raises(InputError, match="mixture: "):
        train(
            tmp_path / "parts", **{**mixed, "dataset_mixture": [{**s, "weight": 5} for s in mixed["dataset_mixture"]]}
        )
