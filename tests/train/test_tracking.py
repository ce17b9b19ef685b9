"""A real training, killed and resumed, then evaluated: one run at Weights & Biases, each step in it once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.evaluate.step import run as evaluate
from headrace.options import parse_mapping
from tests.servers.wandb_files import find_runs, read_run
from tests.servers.wandb_server import WandbServer
from tests.train.conftest import Train, command_line, environment, losses, sha, strict

LONG = {"max_steps": 30, "save_steps": 6, "logging_steps": 2, "save_total_limit": 2}
KEY = "0123456789abcdef0123456789abcdef01234567"
TIMEOUT_S = 200


def wait_for(met: Callable[[], object]) -> None:
    until = time.monotonic() + TIMEOUT_S
    while not met():
        assert time.monotonic() < until, "not within its time"
        time.sleep(0.02)


def killed_after(out: Path, step: int, flags: dict[str, Any], **env: str) -> None:
    """A training that dies by SIGKILL once it has committed this step."""
    process = subprocess.Popen(
        [sys.executable, "-m", "headrace.train", *command_line(out, flags, **LONG)], env=environment(**env),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: (out / f"checkpoint-{step}" / "commit.json").is_file() or process.poll() is not None)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "model.safetensors").exists()


def curve(rows: list[dict[str, Any]]) -> dict[int, float]:
    """Loss by training step."""
    return {row["train/global_step"]: row["train/loss"] for row in rows}


def scored(out: Path, folder: Path) -> dict[str, Any]:
    options = parse_mapping({"model_name_or_path": str(out), "heldout": str(out / "heldout.parquet"), "use_cpu": True})
    return evaluate(options, folder)


def test_killed_and_resumed_it_is_one_run_with_every_step_once(
    train: Train, flags: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with WandbServer() as server:
        env = {"WANDB_MODE": "online", "WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}
        killed_after(out, 12, flags, **env)
        # Its recorder outlives it as long as it takes to send what was logged.
        wait_for(lambda: any(run.complete for run in server.runs.values()))
        (run,) = server.runs.values()
        early, run.complete = list(run.history), False
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        train(out, **LONG)
        assert list(server.runs) == [run.id]
        expected = dict(losses(out))
        assert run.complete and run.exit_code == 0 and len(run.history) == 15
        assert sorted(expected) == list(range(2, 31, 2)) and curve(run.history) == pytest.approx(expected)
        assert early and early == run.history[: len(early)] and len(early) < len(expected)
        record = strict(out / "headrace.json")
        assert run.id == record["tracking_id"] and run.name == record["run_id"]
        assert run.config["plan_hash"]["value"] == record["plan_hash"]
        facts = scored(out, tmp_path / "evaluate")
        assert list(server.runs) == [run.id] and len(run.history) == 17
        scores, tables = run.history[15:]
        assert scores["eval/eval_loss"] == facts["eval_loss"] and scores["train/global_step"] == 30
        assert tables["eval/scores"]["ncols"] == 4 and all(artifact.committed for artifact in server.artifacts)
        assert run.config["heldout"]["value"]["digest"] == record["heldout"]["digest"]
        assert run.summary["version"] == facts["version"]
    monkeypatch.setenv("WANDB_MODE", "offline")
    scored(out, tmp_path / "offline")
    (path,) = find_runs(tmp_path / "offline")
    alone = read_run(path)
    assert alone.id == run.id and alone.exit_code == 0
    assert len(alone.history) == 17 and curve(alone.history[:15]) == pytest.approx(expected)
    assert KEY.encode() not in b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.parametrize("trouble", ["refuses", "500"])
def test_a_server_in_trouble_changes_nothing_of_a_training(
    trouble: str, train: Train, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with WandbServer() as server:
        server.trouble = lambda _: 500
        monkeypatch.setattr("headrace.train.tracking.WAIT_S", 2.0)
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url if trouble == "500" else "http://127.0.0.1:9")
        train(tmp_path / "out")
    assert sha(tmp_path / "out" / "model.safetensors") == sha(finished / "model.safetensors")
    assert "Weights & Biases did not get the run" in caplog.text and KEY not in caplog.text


def test_disabled_nothing_of_it_is_there(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_DISABLED", "true")
    train(tmp_path / "out", max_steps=1)
    assert not (tmp_path / "out" / "tracking").exists() and not (tmp_path / "out" / "wandb").exists()
