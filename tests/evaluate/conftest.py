"""A small dataset, and a model as training leaves it: committed, with its record and its held-out slice."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace import inputs
from headrace.artifacts.checkpoint import CheckpointRef, commit
from headrace.artifacts.files import write_json
from headrace.options import Options, parse_mapping
from tests.scoring.small import EXAMPLE, tiny_model

STEP, PLAN = 99, "5" * 64
FRACTION = 0.2


def text(i: int) -> str:
    return f"Chapter {i}. " + "Functions are defined with def, naïve or not. " * (1 + i % 7) + f"End of {i}."


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 documents in two files, and a test split of 6, two of which are blank."""
    folder = tmp_path_factory.mktemp("dataset")
    splits = {
        "train-00000-of-00002": [text(i) for i in range(20)],
        "train-00001-of-00002": [text(i) for i in range(20, 40)],
        "test-00000-of-00001": [text(100), None, text(101), "  \n", text(102), text(103)],
    }
    (folder / "data").mkdir()
    for name, texts in splits.items():
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), folder / "data" / f"{name}.parquet")
    return folder


@pytest.fixture(scope="session")
def heldout(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What validate leaves for the dataset."""
    options = parse_mapping({"dataset_name": str(dataset), "heldout_fraction": FRACTION})
    made = inputs.open_heldout(options, inputs.open_reader(options, inputs.open_manifest(options)))
    assert made is not None
    path = tmp_path_factory.mktemp("validate") / "heldout.parquet"
    made.write(path)
    return path


@pytest.fixture(scope="session")
def trained(dataset: Path, heldout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train") / "out"
    tiny_model().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(EXAMPLE / name, folder / name)
    shutil.copy(heldout, folder / "heldout.parquet")
    write_json(folder / "headrace.json", training_record(dataset, heldout))
    write_json(folder / "trainer_state.json", {"global_step": STEP})
    seal(folder)
    return folder


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained model that a test may change; `seal` it again afterwards."""
    return Path(shutil.copytree(trained, tmp_path / "model"))


def seal(folder: Path) -> str:
    record = commit(folder, step=STEP, plan_hash=PLAN)
    CheckpointRef(uri=".", commit_hash=record.hash, step=STEP).write(folder)
    return record.hash


def training_record(dataset: Path, heldout: Path) -> dict[str, Any]:
    from headrace.stream.heldout import HeldOut

    slice_ = HeldOut.read(heldout)
    return {
        "version": "0.1.0", "plan": {"lanes": 8, "filters": ["blank"], "mixture": [], "dedup": "", "seed": 42},
        "plan_hash": PLAN, "world_size": 2, "global_batch": 16,
        "dataset": {
            "name": str(dataset), "config": "", "split": "train", "revision": "", "manifest_hash": "7" * 64,
            "files": 2, "row_groups": 2, "rows": 40, "text_bytes": 9000,
        },
        "heldout": {"digest": slice_.digest, "documents": slice_.table.num_rows},
        "block": 24, "lanes": 8, "steps": STEP, "tokens": 38_016, "seconds": 12.5, "tokens_per_s": 3041.3,
        "parameters": 158_272, "samples": [{"prompt": "def", "before": "x", "after": " f"}],
        "history": [
            {"step": 50, "loss": 8.5, "learning_rate": 1e-3, "tokens_per_s": 3000.0},
            {"step": 99, "loss": 8.25, "learning_rate": 1e-4, "tokens_per_s": 3100.0},
        ],
        "parent": {"model": "base", "revision": None, "commit_hash": "9" * 64, "random_weights": False},
        "git_commit": "c" * 40, "packages": {"torch": "2.13.0"},
    }  # fmt: skip


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A step's command line sends the log to the stderr it finds, which is this test's."""
    log = logging.getLogger("headrace")
    before = log.handlers[:], log.level, log.propagate
    yield
    log.handlers[:], log.level, log.propagate = before


@pytest.fixture(autouse=True)
def no_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_DIR", "WANDB_DATA_DIR", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "disabled")


def options_for(model: Path | str, **given: Any) -> Options:
    return parse_mapping({"model_name_or_path": str(model), "torch_threads": 1, **given})
