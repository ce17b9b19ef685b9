from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from headrace.entry import run_component
from headrace.options import parse_mapping
from headrace.validate.step import run as validate
from headrace_pipelines.__main__ import main

ROOT = Path(__file__).parents[2]
PYDOCS, TINY = ROOT / "examples/pydocs", ROOT / "examples/tiny-gpt2"
DATA = {
    "dataset_name": str(PYDOCS), "model_name_or_path": str(TINY), "heldout_fraction": 0.1,
    "per_device_train_batch_size": 4,
}  # fmt: skip


class Said(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Headrace = Callable[..., Said]


@pytest.fixture
def headrace(capfd: pytest.CaptureFixture[str]) -> Headrace:
    """Runs the command; its code and what it printed."""

    def run(*argv: object) -> Said:
        capfd.readouterr()
        code = main([str(a) for a in argv])
        return Said(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What validate leaves of the shipped corpus."""
    folder = tmp_path_factory.mktemp("checked")
    run_component(validate, parse_mapping(DATA), folder)
    return folder


@pytest.fixture
def report(checked: Path, tmp_path: Path) -> Path:
    """A copy of that folder, which a test may change."""
    return Path(shutil.copytree(checked, tmp_path / "checked"))


def changed(path: Path, **values: Any) -> None:
    """Write other values into a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
