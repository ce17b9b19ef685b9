"""A run at Weights & Biases: whole and once, whatever happens to processes and servers; never at a step's cost."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb

from headrace.tracking import __main__ as command
from headrace.tracking.journal import FOLDER, Journal, RunFacts
from headrace.tracking.modes import OFFLINE, ONLINE
from headrace.tracking.tracker import SAID, Tracker
from tests.servers.wandb_files import find_runs, read_run
from tests.servers.wandb_server import WandbServer
from tests.tracking.conftest import KEY, RUN, scored, trained


def facts(**changed: Any) -> RunFacts:
    known: dict[str, Any] = {"id": RUN, "project": "p", "name": "mill", "job_type": "train", "config": {"a": 1}}
    return RunFacts(**{**known, **changed})


def tracked(folder: Path, *steps: int, mode: str = ONLINE, **changed: Any) -> Tracker:
    tracker = Tracker(folder, facts(**changed), mode)
    for step in steps:
        tracker.row(step, {"train/loss": 10.0 / step})
    return tracker


def wait_for(met: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < until, "not within its time"
        time.sleep(0.1)


def sent(output_dir: Path) -> bool:
    """Whether the command that warnings name sends the rest."""
    try:
        return command.main([str(output_dir / FOLDER)]) == 0
    finally:
        wandb.teardown()


def left_alone(tracker: Tracker) -> None:
    """What becomes of a run whose step was killed: its standard input ends, and the process by itself."""
    child = tracker._child
    assert child is not None
    tracker.leave()
    wait_for(lambda: os.waitpid(child.pid, os.WNOHANG)[0])


def test_a_run_arrives_whole(server: WandbServer, tmp_path: Path) -> None:
    tracker = tracked(tmp_path, 10, 20)
    tracker.row(20, {"train/eval_loss": 3.0})
    tracker.scores("step-20-ab", {"eval/eval_loss": 2.5})
    assert tracker.finish()
    run = server.runs[RUN]
    assert (run.project, run.name, run.job_type, run.complete, run.exit_code) == ("p", "mill", "train", True, 0)
    assert trained(run) == [10, 20] and run.history[1]["train/eval_loss"] == 3.0
    assert scored(run) == [(20, "step-20-ab", 2.5)] and len(run.history) == 3
    assert run.config["a"]["value"] == 1 and run.summary["eval/eval_loss"] == 2.5
    assert run.summary["version"] == "step-20-ab"
    # Curves have the training's steps below them: W&B's number of each metric's axis counts from 1.
    axis, every = run.config["_wandb"]["value"]["m"]
    assert (axis["1"], every["2"], every["5"]) == ("train/global_step", "*", 1)


def test_another_start_adds_only_what_is_missing(server: WandbServer, tmp_path: Path) -> None:
    """Killed after step 30 and resumed from a checkpoint of step 20: 30 comes again, and is there once."""
    left_alone(tracked(tmp_path / "first", 10, 20, 30, 40))
    run = server.runs[RUN]
    # What came last may have lacked a part of its step, and is not sent.
    assert trained(run) == [10, 20, 30] and run.exit_code == 1
    assert tracked(tmp_path / "second", 10, 20, 30, 40, 50, config={"a": 2, "lineage": {"b": 3}}).finish()
    assert trained(run) == [10, 20, 30, 40, 50] and len(run.history) == 5 and len(server.runs) == 1
    assert run.config["a"]["value"] == 2 and run.config["lineage"]["value"] == {"b": 3}


def test_tables_that_do_not_arrive_are_sent_later(
    server: WandbServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.trouble = lambda asked: 500 if asked == "CreateArtifactFiles" else None
    tracker = tracked(tmp_path, 10)
    tracker.scores("v", {"eval/eval_loss": 2.5})
    tracker.table("eval/0", ["source", "eval_loss"], [["a", 1.0], ["b", None]])
    tracker._write(Journal.end)
    wait_for(lambda: "CreateArtifactFiles" in server.asked)
    assert not tracker.finish(wait_s=0.5)
    assert f"-m headrace.tracking {tmp_path / FOLDER}" in caplog.text
    server.trouble = lambda _: None
    assert sent(tmp_path) and sent(tmp_path)
    run = server.runs[RUN]
    assert len(run.history) == 3 and scored(run) == [(10, "v", 2.5)] and run.history[2]["eval/0"]["nrows"] == 2
    assert [artifact.committed for artifact in server.artifacts].count(True) == 1


def test_two_starts_at_once_do_not_log_twice(server: WandbServer, tmp_path: Path) -> None:
    """The first one's process still sends, after its step was killed, when the next one begins."""
    first = tracked(tmp_path, 10, 20, 30)
    child = first._child
    first.leave()
    assert tracked(tmp_path, 10, 20, 30, 40).finish()
    assert child is not None
    wait_for(lambda: os.waitpid(child.pid, os.WNOHANG)[0])
    assert trained(server.runs[RUN]) == [10, 20, 30, 40]


def test_a_server_that_comes_late_gets_everything(server: WandbServer, tmp_path: Path) -> None:
    down = {"now": True}
    server.trouble = lambda _: 401 if down["now"] else None
    tracker = tracked(tmp_path, 10, 20)
    wait_for(lambda: server.asked)
    down["now"] = False
    tracker.row(30, {"train/loss": 1.0})
    assert tracker.finish() and trained(server.runs[RUN]) == [10, 20, 30]


@pytest.mark.parametrize("trouble", ["refuses", "hangs", "401", "500", "dies midway"])
def test_a_server_in_trouble_costs_bounded_time_and_no_data(
    trouble: str, server: WandbServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        if trouble == "refuses":
            monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        elif trouble == "hangs":
            monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{mute.getsockname()[1]}")
        elif trouble in ("401", "500"):
            server.trouble = lambda _: int(trouble)
        started = time.monotonic()
        tracker = tracked(tmp_path, 10)
        if trouble == "dies midway":
            wait_for(lambda: RUN in server.runs)
            server.trouble = lambda _: 500
        tracker.row(20, {"train/loss": 0.5})
        assert time.monotonic() - started < 60
        held = mute.accept()[0] if trouble == "hangs" else mute
        wait_for(lambda: server.asked or trouble in ("refuses", "hangs"))
        wait_for(lambda: (tmp_path / FOLDER / SAID).read_text() or trouble != "401")
        ending = time.monotonic()
        with caplog.at_level(logging.WARNING, "headrace"):
            assert not tracker.finish(wait_s=2.0 if trouble == "refuses" else 0.5)
        assert time.monotonic() - ending < 6
        held.close()
    assert f"-m headrace.tracking {tmp_path / FOLDER}" in caplog.text and KEY not in caplog.text
    assert KEY.encode() not in b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    # The server is well again, and the command of the warning sends what it lacks.
    server.trouble = lambda _: None
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    assert sent(tmp_path) and trained(server.runs[RUN]) == [10, 20]


def test_a_process_that_is_killed_is_a_warning(
    server: WandbServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = tracked(tmp_path, 10)
    assert tracker._child is not None
    tracker._child.send_signal(signal.SIGKILL)
    wait_for(lambda: tracker._child is None or tracker._child.poll() is not None)
    with caplog.at_level(logging.WARNING, "headrace"):
        for step in (20, 30):
            tracker.row(step, {"train/loss": 1.0})
        assert not tracker.finish()
    assert caplog.text.count("did not get the run") == 1
    send = [sys.executable, "-m", "headrace.tracking", str(tmp_path / FOLDER)]
    assert subprocess.run(send, timeout=120).returncode == 0 and trained(server.runs[RUN]) == [10, 20, 30]


def test_offline_nothing_leaves_this_machine(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracker = tracked(tmp_path, 10, 20, mode=OFFLINE)
    tracker.scores("v", {"eval/eval_loss": 2.5})
    tracker.table("eval/by_source", ["source", "eval_loss"], [["a", 1.0], ["b", None]])
    assert tracker.finish()
    (path,) = find_runs(tmp_path)
    run = read_run(path)
    assert path.parent == tracker.recorded() and run.exit_code == 0 and run.id == RUN
    assert [row["train/global_step"] for row in run.history] == [10, 20, 20, 20] and run.config == {"a": 1}
    assert run.history[2]["eval/eval_loss"] == 2.5 and run.history[3]["eval/by_source.nrows"] == 2
    assert server.asked == [] and server.runs == {}


def test_a_full_disk_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    with caplog.at_level(logging.WARNING, "headrace"):
        tracker = tracked(tmp_path, 10, mode=OFFLINE)
        tracker.row(20, {"train/loss": 1.0})
        assert not tracker.finish() and tracker.recorded() is None
        tracker.leave()
    assert caplog.text.count("did not get the run") == 1


def test_a_value_that_is_no_json_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "headrace"):
        tracker = tracked(tmp_path, mode=OFFLINE)
        tracker.row(10, {"x": object()})
        tracker.finish()
    assert "did not get the run (TypeError" in caplog.text


def test_nothing_to_record_is_an_input_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(tmp_path)]) == 2
    assert "headrace: error:" in capfd.readouterr().err
