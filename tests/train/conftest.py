from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from headrace.entry import run_component
from headrace.options import parse_mapping
from tests.artifact_of import handed_on

ROOT = Path(__file__).parents[2]
PYDOCS = ROOT / "examples" / "pydocs"

Train = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of one layer, with dropout, and the shipped tokenizer; no weights."""
    folder = tmp_path_factory.mktemp("tiny")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "examples" / "tiny-gpt2" / name, folder / name)
    config = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 4096, "n_positions": 64,
        "n_embd": 32, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def still(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without dropout, so that the ranks may differ in number."""
    folder = tmp_path_factory.mktemp("still") / "model"
    shutil.copytree(tiny, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def flags(tiny: Path) -> dict[str, Any]:
    """A training of a few steps."""
    return {
        "dataset_name": str(PYDOCS), "model_name_or_path": str(tiny), "init_from_config": True, "max_steps": 6,
        "save_steps": 2, "logging_steps": 3, "per_device_train_batch_size": 4, "torch_threads": 1, "lanes": 4,
        "disable_tqdm": True, "learning_rate": 1e-2,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("WANDB_MODE", "disabled")


@pytest.fixture(scope="session")
def train(flags: dict[str, Any]) -> Iterator[Train]:
    """Run the step in this process, with some flags changed (None: left out)."""

    def run(output_dir: Path, **changed: Any) -> dict[str, Any]:
        from headrace.train.step import run as step

        values = {k: v for k, v in {**flags, **changed, "output_dir": str(output_dir)}.items() if v is not None}
        return run_component(step, parse_mapping(values), output_dir)

    yield run


@pytest.fixture(scope="session")
def finished(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that ran to its end untouched: never to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    train(folder, do_eval=True)
    return folder


@pytest.fixture(scope="session")
def two(flags: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two ranks under torchrun that nobody touched."""
    from tests.train.ranks import LONG, torchrun

    return torchrun(tmp_path_factory.mktemp("two") / "out", flags, **LONG)


@pytest.fixture(scope="session")
def looked(flags: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dsl.Artifact]:
    """What validation hands on."""
    return handed_on(flags, tmp_path_factory.mktemp("looked"))


@pytest.fixture
def killed(finished: Path, tmp_path: Path) -> Path:
    """What the same training would have left if it had died right after its checkpoint of step 4."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("checkpoint-2", "checkpoint-4"):
        shutil.copytree(finished / name, folder / name)
    for name in ("manifest.json", "heldout.parquet"):
        shutil.copy(finished / name, folder / name)
    return folder


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def strict(path: Path) -> Any:
    """The value of a file of strict JSON."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{path} holds {name}")

    return json.loads(path.read_text("utf-8"), parse_constant=refuse)


def losses(output_dir: Path) -> list[tuple[int, float]]:
    history = strict(output_dir / "trainer_state.json")["log_history"]
    return [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]


def logged(output_dir: Path) -> list[dict[str, Any]]:
    """The whole log but for what a clock says."""
    from headrace.train.health import CLOCKED

    history = strict(output_dir / "trainer_state.json")["log_history"]
    return [
        {k: v for k, v in entry.items() if k not in CLOCKED and "per_s" not in k and "runtime" not in k}
        for entry in history
    ]


def command_line(output_dir: Path, flags: dict[str, Any], **changed: Any) -> list[str]:
    """The flags of the `headrace train` command."""
    values = {**flags, **changed, "output_dir": str(output_dir)}
    return [word for k, v in values.items() if v is not None for word in (f"--{k}", str(v))]


def environment(**more: str) -> dict[str, str]:
    return {
        **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'components'}:{ROOT / 'pipelines'}",
        "TOKENIZERS_PARALLELISM": "false", **more,
    }  # fmt: skip
