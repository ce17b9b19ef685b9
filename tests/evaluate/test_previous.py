"""Which run a report compares with."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from headrace.artifacts.storage import open_store
from headrace.evaluate.previous import find_previous
from headrace.evaluate.shelf import CURRENT
from headrace.evaluate.step import run
from tests.evaluate.conftest import options_for, seal


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def promoted(shelf: Path, *versions: str) -> None:
    """A place's pointer after these promotions."""
    entries = [
        {"version": v, "commit_hash": "c", "step": 1, "by": "promoted", "at": "", "id": str(i)}
        for i, v in enumerate(versions)
    ]
    put(shelf / CURRENT, {**entries[-1], "promotions": entries})


def previous(shelf: Path, output_dir: Path, version: str = "mine") -> dict[str, Any] | None:
    return find_previous(open_store(str(shelf)), output_dir, version)


def test_nothing_was_there_before(tmp_path: Path) -> None:
    assert previous(tmp_path / "shelf", tmp_path / "out") is None
    assert previous(tmp_path / "shelf", tmp_path / "runs" / "run-2" / "evaluate") is None


def test_the_model_promoted_last_counts_but_never_the_same_one(tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    for version, loss in (("old", 5.0), ("new", 4.0)):
        put(shelf / version / "metrics.json", {"eval_loss": loss})
    put(shelf / "new" / "lineage.json", {"a": 1})
    promoted(shelf, "old", "new")
    found = previous(shelf, tmp_path / "out")
    assert found is not None and (found["name"], found["lineage"]) == ("new", {"a": 1})
    again = previous(shelf, tmp_path / "out", "new")
    assert again is not None and again["metrics"] == {"eval_loss": 5.0} and again["lineage"] == {}
    promoted(shelf, "mine")
    assert previous(shelf, tmp_path / "out") is None


def test_without_one_it_is_the_newest_finished_run_of_the_folder(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name in ("run-20260101-000000-aa", "run-20260102-000000-aa", "run-20260104-000000-aa"):
        put(runs / name / "evaluate" / "metrics.json", {"eval_loss": 1.0})
    (runs / "run-20260102-120000-aa" / "evaluate").mkdir(parents=True)  # it died
    found = previous(tmp_path / "shelf", runs / "run-20260103-000000-bb" / "evaluate")
    assert found is not None and found["name"] == "run-20260102-000000-aa"
    assert previous(tmp_path / "shelf", tmp_path / "elsewhere") is None


def test_one_that_cannot_be_read_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / CURRENT).write_text("{")
    with caplog.at_level(logging.WARNING, "headrace"):
        assert previous(tmp_path / "shelf", tmp_path / "out") is None
    assert "compares with no earlier run" in caplog.text


@pytest.mark.parametrize("name", ["metrics.json", "lineage.json"])
def test_papers_that_are_no_objects_are_a_warning(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path / "shelf" / "old" / "metrics.json", {"eval_loss": 5.0})
    put(tmp_path / "shelf" / "old" / name, [1])
    promoted(tmp_path / "shelf", "old")
    with caplog.at_level(logging.WARNING, "headrace"):
        assert previous(tmp_path / "shelf", tmp_path / "out") is None
    assert f"{name} holds no object" in caplog.text


def test_a_second_evaluation_is_shown_beside_the_first(model: Path, heldout: Path, tmp_path: Path) -> None:
    given = {"heldout": str(heldout), "publish": str(tmp_path / "shelf"), "gate": "off"}
    first = run(options_for(model, **given), tmp_path / "first")
    assert "Beside the run before" not in (tmp_path / "first" / "report.html").read_text("utf-8")
    config = json.loads((model / "config.json").read_text())
    put(model / "config.json", {**config, "layer_norm_epsilon": 0.5})
    seal(model)
    second = run(options_for(model, **given), tmp_path / "second")
    html = (tmp_path / "second" / "report.html").read_text("utf-8")
    assert second["version"] != first["version"] and first["version"] in html
    assert "Beside the run before" in html and "Both were scored on the same documents." in html
