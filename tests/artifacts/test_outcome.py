"""How a step ended and how far it has got."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from headrace.artifacts.outcome import Progress, read_outcome, read_progress, write_outcome
from headrace.errors import InputError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_outcome_reads_back(tmp_path: Path) -> None:
    write_outcome(tmp_path, 2, "no such column", "name one", step_name="train", loss=math.nan)
    outcome = read_outcome(tmp_path)
    assert outcome["code"] == 2 and outcome["error"] == "no such column" and outcome["remedy"] == "name one"
    assert outcome["step_name"] == "train" and outcome["loss"] is None and "nan" in outcome["loss_note"]


def test_no_outcome(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_outcome(tmp_path)
    (tmp_path / "outcome.json").write_text("[]")
    with pytest.raises(InputError, match="exit code"):
        read_outcome(tmp_path)


def test_progress_is_written_at_most_every_half_second(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "progress.json"
    assert read_progress(path) is None
    progress = Progress(path, clock)

    def written() -> object:
        state = read_progress(path)
        assert state is not None
        return state["phase"], state["done"]

    progress.update("read", 1, 10, "rows")
    assert written() == ("read", 1)
    clock.now += 0.4
    progress.update("read", 2, 10, "rows")
    assert written() == ("read", 1)
    clock.now += 0.1
    progress.update("read", 3, 10, "rows", loss=math.inf)
    assert written() == ("read", 3)
    progress.update("read", 10, 10, "rows")
    assert written() == ("read", 10)
    progress.update("write", 0, None, "bytes")
    assert written() == ("write", 0)
