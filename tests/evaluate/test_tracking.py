"""What an evaluation records of its run, and that nothing of it can fail the step."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from headrace.artifacts.files import read_json
from headrace.evaluate.step import run
from headrace.evaluate.tracking import tables, track
from tests.evaluate.conftest import PLAN, options_for, seal
from tests.servers.wandb_files import OfflineRun, find_runs, read_run
from tests.servers.wandb_server import WandbServer

KEY = "0123456789abcdef0123456789abcdef01234567"
METRICS = {
    "eval_loss": 4.0, "eval_loss_interval": [3.5, 4.5], "perplexity": None, "version": "v", "heldout": "d",
    "metrics": {"mine": 0.5}, "gate": {"mode": "block", "outcome": "passed", "reasons": []},
    "by_source": [{"source": "a", "eval_loss": 3.0}, {"source": "b", "eval_loss": 5.0, "accuracy": 0.25}],
    "by_length": [{"length": [1, 64], "eval_loss": 4.0}, {"length": [16385, None], "eval_loss": 2.0}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def tracker(no_tracker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")


def record(output: Path, **changes: Any) -> Path | None:
    known: dict[str, Any] = {
        "project": "p", "version": "v", "training": {}, "metrics": METRICS, "lineage": {"plan_hash": PLAN},
    }  # fmt: skip
    return track(output, **{**known, **changes})


def read(output: Path) -> OfflineRun:
    (path,) = find_runs(output)
    return read_run(path)


def test_a_step_records_training_and_scores(model: Path, heldout: Path, tmp_path: Path) -> None:
    known = read_json(model / "headrace.json")
    (model / "headrace.json").write_text(
        (model / "headrace.json").read_text().replace("{", '{"run_id": "mill", "tracking_id": "mill-12",', 1)
    )
    seal(model)
    facts = run(options_for(model, heldout=str(heldout), wandb_project="works"), tmp_path / "out")
    found = read(tmp_path / "out")
    assert (found.project, found.name, found.id, found.job_type) == ("works", "mill", "mill-12", "train")
    assert found.config["plan_hash"] == PLAN and found.config["dataset"]["manifest_hash"] == "7" * 64
    *rows, scores, tables = found.history
    steps = [entry["step"] for entry in known["history"]]
    assert steps == [50, 99] and [row["train/global_step"] for row in found.history] == [50, 99, 99, 99]
    assert [row["train/loss"] for row in rows] == [8.5, 8.25]
    assert scores["eval/eval_loss"] == facts["eval_loss"] and scores["version"] == facts["version"]
    assert found.summary["eval/perplexity"] == facts["perplexity"] and found.summary["eval/gate"] == "passed"
    # Tables are all that is uploaded.
    assert found.exit_code == 0 and {a.type for a in found.artifacts} == {"run_table"}
    assert tables["eval/samples.nrows"] == 1 and tables["eval/scores.ncols"] == 4
    assert tables["eval/by_position.nrows"] > 1 and tables["eval/by_length.nrows"] >= 1


def test_a_model_of_unknown_training_is_a_run_of_its_own(tmp_path: Path) -> None:
    folder = record(tmp_path)
    found = read(tmp_path)
    assert folder is not None and (found.id, found.job_type) == ("v", "evaluate")
    row, tables = found.history
    assert "train/global_step" not in row and tables["eval/scores.nrows"] == 1
    assert row["eval/eval_loss"] == 4.0 and row["eval/eval_loss_interval_low"] == 3.5 and row["eval/mine"] == 0.5


def test_tables_of_scores() -> None:
    found = {name: (columns, rows) for name, columns, rows in tables(METRICS, [{"prompt": "a", "after": "b"}])}
    assert found == {
        "eval/scores": (["metric", "value", "low", "high"], [["eval_loss", 4.0, 3.5, 4.5]]),
        "eval/by_source": (["source", "eval_loss", "accuracy"], [["a", 3.0, None], ["b", 5.0, 0.25]]),
        "eval/by_length": (["length", "eval_loss"], [["1 to 64", 4.0], ["16385 to", 2.0]]),
        "eval/samples": (["prompt", "before", "after"], [["a", "", "b"]]),
    }


def test_folders_of_the_users_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    folder = record(tmp_path / "out")
    assert folder is not None and folder.is_relative_to(tmp_path / "mine")
    assert not find_runs(tmp_path / "out")


@pytest.mark.parametrize(("name", "value"), [("WANDB_MODE", "disabled"), ("WANDB_DISABLED", "true")])
def test_disabled_is_disabled(name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert record(tmp_path) is None and not list(tmp_path.iterdir())


def test_a_failing_tracker_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "headrace"):
        assert record(tmp_path, project="no/slashes?", wait_s=5.0) is None
        assert record(tmp_path, lineage={"a": object()}) is None
    assert caplog.text.count("did not get the run") == 2


@pytest.mark.parametrize("status", [401, 500])
def test_a_server_in_trouble_costs_bounded_time(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with WandbServer() as server:
        server.trouble = lambda _: status
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        started = time.monotonic()
        with caplog.at_level(logging.WARNING, "headrace"):
            assert record(tmp_path, wait_s=1.5) is None
        assert time.monotonic() - started < 15
    assert "-m headrace.tracking" in caplog.text and KEY not in caplog.text
