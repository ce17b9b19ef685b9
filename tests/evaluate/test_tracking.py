"""Weights & Biases: what is recorded, and that nothing of it can fail a step."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from headrace.evaluate.step import run
from headrace.evaluate.tracking import sync, track
from tests.evaluate.conftest import PLAN, options_for
from tests.servers.listening import Handler, Listener
from tests.servers.wandb_files import OfflineRun, find_runs, read_run

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def tracker(no_tracker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")


def record(output: Path, **changes: Any) -> Path | None:
    known: dict[str, Any] = {"project": "p", "name": "n", "config": {"a": 1}, "history": [], "metrics": {"m": 2.0}}
    return track(output, **{**known, **changes})


def read(output: Path) -> OfflineRun:
    (path,) = find_runs(output)
    return read_run(path)


def test_a_step_records_training_and_scores(model: Path, heldout: Path, tmp_path: Path) -> None:
    facts = run(options_for(model, heldout=str(heldout), wandb_project="mill"), tmp_path / "out")
    found = read(tmp_path / "out")
    assert (found.project, found.name, found.job_type) == ("mill", facts["version"], "evaluate")
    assert found.exit_code == 0 and not found.artifacts
    assert found.config["plan_hash"] == PLAN and found.config["dataset"]["manifest_hash"] == "7" * 64
    logged = {row["_step"]: row for row in found.history}
    assert logged[50]["train/loss"] == 8.5 and logged[99]["train/loss"] == 8.25
    assert logged[100]["eval/eval_loss"] == facts["eval_loss"]
    assert found.summary["eval/perplexity"] == facts["perplexity"]


def test_folders_of_the_users_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    folder = record(tmp_path / "out")
    assert folder is not None and folder.is_relative_to(tmp_path / "mine")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "value"), [("WANDB_MODE", "disabled"), ("WANDB_DISABLED", "true")])
def test_disabled_is_disabled(name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert record(tmp_path) is None and not list(tmp_path.iterdir())


def test_a_failing_tracker_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "headrace"):
        assert record(tmp_path, config={"a": object()}, project="no/slashes?") is None
    assert "did not record the run" in caplog.text


def test_an_unreachable_server_costs_bounded_time_and_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    with caplog.at_level(logging.WARNING, "headrace"):
        folder = record(tmp_path, sync_s=3.0)
    assert time.monotonic() - started < 30
    assert folder is not None and read(tmp_path).summary["eval/m"] == 2.0
    assert f"wandb sync {folder}" in caplog.text and KEY not in caplog.text
    assert KEY.encode() not in b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


class Refusing(Handler):
    """A server that knows no key."""

    def answer(self) -> None:
        self.body()
        body = b'{"errors": [{"message": "who are you"}]}'
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_refused_key_is_told_though_wandb_exits_with_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = record(tmp_path)
    assert folder is not None
    with Listener(Refusing) as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        with caplog.at_level(logging.WARNING, "headrace"):
            assert not sync(folder, 60.0)
    assert "did not get the run (wandb: ERROR who are you)" in caplog.text
