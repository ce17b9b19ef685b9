"""From options to what a step works on: the checks that come before any model is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from headrace import inputs
from headrace.artifacts.checkpoint import CheckpointRef
from headrace.artifacts.files import write_json
from headrace.errors import InputError
from headrace.options import Options, parse_mapping
from headrace.stream.feed import Choice
from headrace.stream.tokenizer import ModelLimits

ROOT = Path(__file__).parents[1]
PYDOCS, TINY = ROOT / "examples/pydocs", ROOT / "examples/tiny-gpt2"


def options(**changed: Any) -> Options:
    values = {"dataset_name": str(PYDOCS), "model_name_or_path": str(TINY), **changed}
    return parse_mapping({k: v for k, v in values.items() if v is not None})


def test_a_manifest_that_was_made_is_used(tmp_path: Path) -> None:
    made = inputs.open_manifest(options())
    write_json(tmp_path / "manifest.json", made.to_json())
    given = {"manifest": str(tmp_path / "manifest.json"), "dataset_name": None}
    assert inputs.open_manifest(options(**given)) == made
    assert inputs.open_manifest(options(**given, max_train_samples=11)).rows == 11
    with pytest.raises(InputError, match="of the column 'text'"):
        inputs.open_manifest(options(**given, dataset_text_field="url"))
    with pytest.raises(InputError, match="--dataset_name is missing"):
        inputs.open_manifest(options(dataset_name=None))


def test_the_text_column(tmp_path: Path) -> None:
    assert inputs.open_manifest(options(dataset_text_field="url")).text_column == "url"
    with pytest.raises(InputError, match=r"no column 'txt' \(nearest: text"):
        inputs.open_manifest(options(dataset_text_field="txt"))
    with pytest.raises(InputError, match=r"holds int64, expected text; columns of text: text, id"):
        inputs.open_manifest(options(dataset_text_field="token_count"))


@pytest.mark.parametrize(
    ("asked", "limit", "expected"),
    [({}, 256, 256), ({}, 100_000, 8192), ({}, None, 8192), ({"dataset_block_size": 16}, 256, 16),
     ({"dataset_max_seq_length": 16}, 256, 256),
     ({"dataset_max_seq_length": 16, "dataset_group_text": False}, 256, 16)],
)  # fmt: skip
def test_block_sizes(asked: dict[str, Any], limit: int | None, expected: int) -> None:
    assert inputs.block_size(options(**asked), ModelLimits("gpt2", 10, limit)) == expected


@pytest.mark.parametrize("size", [257, 1])
def test_block_sizes_that_do_not_fit(size: int) -> None:
    with pytest.raises(InputError, match=f"--dataset_block_size is {size}"):
        inputs.block_size(options(dataset_block_size=size), ModelLimits("gpt2", 10, 256))


def test_a_tokenizer_that_does_not_fit_the_model(tmp_path: Path) -> None:
    config = json.loads((TINY / "config.json").read_text()) | {"vocab_size": 100}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"ids up to 4095; the model .* a vocabulary of 100"):
        inputs.open_encoder(options(model_name_or_path=str(tmp_path), tokenizer=str(TINY)))
    assert inputs.open_encoder(options(model_name_or_path=None, tokenizer=str(TINY))).size == 4096


def test_a_reference_to_a_model_elsewhere_is_followed(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "there")
    for uri in ("there", str(tmp_path / "there")):
        CheckpointRef(uri=uri, commit_hash="x", step=1).write(tmp_path)
        assert inputs.open_encoder(options(model_name_or_path=str(tmp_path))).size == 4096


def test_held_out_by_rule_by_file_or_not_at_all(tmp_path: Path) -> None:
    manifest = inputs.open_manifest(options())
    reader = inputs.open_reader(options(), manifest)
    made = inputs.open_heldout(options(heldout_fraction=0.1), reader)
    assert made is not None and len(made.texts) == 6
    made.write(tmp_path / "h.parquet")
    read = inputs.open_heldout(options(heldout=str(tmp_path / "h.parquet")), reader)
    assert read is not None and read.digest == made.digest
    assert inputs.open_heldout(options(heldout_fraction=0), reader) is None
    bounded = inputs.open_heldout(options(heldout_fraction=0.5, max_eval_samples=3), reader)
    assert bounded is not None and len(bounded.texts) == 3


def test_the_plan_tells_what_differs() -> None:
    reader = inputs.open_reader(options(), inputs.open_manifest(options()))
    encoder = inputs.open_encoder(options())

    def plan(**changed: Any) -> Any:
        return inputs.open_plan(options(**changed), reader, encoder, None, Choice(), block=64, global_batch=8)

    assert plan().hash == plan(dataloader_num_workers=4, max_steps=9).hash
    assert plan(seed=7).differences(plan().to_json()) == ["seed: 42 → 7"]
    assert plan(lanes=5, seed=7).hash != plan(lanes=5).hash


SOURCES = [
    {"name": str(PYDOCS / "data/train-0000[0-2]*.parquet"), "weight": 3},
    {"name": str(PYDOCS / "data/train-0000[3-5]*.parquet"), "weight": 1.0},  # as it comes out of a pipeline
]


def test_a_mixture_is_one_dataset_of_several_sources() -> None:
    manifest = inputs.open_manifest(options(dataset_name=None, dataset_mixture=SOURCES))
    assert [p.weight for p in manifest.parts] == [3, 1] and manifest.rows == 57
    assert len({manifest.label(i) for i in range(6)}) == 6


@pytest.mark.parametrize(
    ("mixture", "said"),
    [
        ("pydocs", "no list of two or more sources"),
        (SOURCES[:1], "no list of two or more sources"),
        ([*SOURCES, {"name": "x", "wieght": 1}], "key 'wieght' (nearest: weight"),
        ([*SOURCES, {"name": "x", "weight": 0.5}], "weight is 0.5, expected int"),
        ([*SOURCES, {"name": "x"}], "lacks a name or a weight"),
        ([*SOURCES, {"name": "no/such*.parquet", "weight": 1}], "no/such"),
    ],
)
def test_what_is_no_mixture_is_told(mixture: Any, said: str) -> None:
    with pytest.raises(InputError) as found:
        inputs.open_manifest(options(dataset_name=None, dataset_mixture=mixture))
    assert said in found.value.message


def test_a_mixture_is_named_alone_and_has_no_first_rows() -> None:
    with pytest.raises(InputError, match="both given"):
        inputs.open_manifest(options(dataset_mixture=SOURCES))
    with pytest.raises(InputError, match="a mixture has several"):
        inputs.open_manifest(options(dataset_name=None, dataset_mixture=SOURCES, max_train_samples=3))
    with pytest.raises(InputError, match="no epoch in common"):
        inputs.required_steps(options(dataset_name=None, dataset_mixture=SOURCES))


def test_the_bitmap_of_copies_belongs_to_its_scope(tmp_path: Path) -> None:
    reader = inputs.open_reader(options(), inputs.open_manifest(options()))
    with pytest.raises(InputError, match="--dedup is none"):
        inputs.open_choice(options(duplicates=str(tmp_path / "d.parquet")), reader, None)
    made = inputs.open_choice(options(dedup="dataset"), reader, None).duplicates
    assert made is not None
    made.write(tmp_path / "d.parquet")
    read = inputs.open_choice(options(dedup="dataset", duplicates=str(tmp_path / "d.parquet")), reader, None)
    assert read.duplicates is not None and read.duplicates.digest == made.digest
