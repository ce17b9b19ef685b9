"""How a step starts and ends: exit codes, outcome.json, one line for a mistake and a traceback for a bug."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace.entry import run_command, run_component
from headrace.errors import HeadraceError, InputError, Preempted, Refused
from headrace.options import Options


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    log = logging.getLogger("headrace")
    before = log.handlers[:], log.level, log.propagate
    yield
    log.handlers[:], log.level, log.propagate = before


def run(output_dir: Path | None, end: BaseException | None = None, *argv: str) -> int:
    def work(options: Options, folder: Path) -> Mapping[str, Any]:
        if end is not None:
            raise end
        return {"steps": 3, "loss": float("nan")}

    place = [] if output_dir is None else ["--output_dir", str(output_dir)]
    return run_command("train", [*place, *argv], description="d", example="e", groups=["training"], work=work)


def outcome(folder: Path) -> Any:
    return json.loads((folder / "outcome.json").read_text())


def test_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "a" / "b") == 0
    found = outcome(tmp_path / "a" / "b")
    assert found["code"] == 0 and found["steps"] == 3 and found["loss"] is None and "loss_note" in found
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("wrong", "do this"), 2), (Refused("wrong", "do this"), 3), (Preempted("wrong", "do this"), 75),
        (HeadraceError("wrong", "do this"), 1),
    ],
)  # fmt: skip
def test_an_error_of_ours_is_one_line(
    error: HeadraceError, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, error) == code
    assert capsys.readouterr().err == "headrace: error: wrong\n  do this\n"
    assert outcome(tmp_path) == {"code": code, "error": "wrong", "remedy": "do this"}


def test_debug_shows_where_it_came_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, InputError("wrong"), "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_is_exit_1_with_its_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, KeyError("oops")) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown and shown.endswith("headrace: error: KeyError: 'oops'\n")
    assert outcome(tmp_path)["code"] == 1 and "oops" in outcome(tmp_path)["error"]


def test_mistakes_before_the_step_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(None) == 2 and "--output_dir is missing" in capsys.readouterr().err
    assert run(tmp_path, None, "--max_stepz", "1") == 2 and "max_steps" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file" / "out") == 2 and "cannot make the folder" in capsys.readouterr().err
    assert run(Path("gs://bucket/out")) == 2 and "--store" in capsys.readouterr().err


def test_a_component_gets_the_error_itself(tmp_path: Path) -> None:
    def work(options: Options, folder: Path) -> Mapping[str, Any]:
        raise InputError("wrong")

    with pytest.raises(InputError, match="wrong"):
        run_component(work, Options(), tmp_path)
    assert outcome(tmp_path)["code"] == 2
