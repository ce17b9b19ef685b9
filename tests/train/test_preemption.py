"""Real processes, stopped by real signals in every phase, end as if nobody had touched them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from headrace.artifacts.checkpoint import COMMIT, committed, read_commit
from headrace.artifacts.storage import open_store
from headrace.errors import Preempted, Taken
from headrace.stream.ledger import Ledger
from headrace.train.preemption import Stopping
from tests.servers.faultproxy import FaultProxy
from tests.servers.gcs import GcsServer
from tests.train.conftest import Train, command_line, environment, logged, sha, strict

TIMEOUT_S = 200
LONG = {
    "max_steps": 60, "save_steps": 20, "logging_steps": 7, "eval_strategy": "steps", "eval_steps": 15,
    "max_eval_samples": 24, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    train(folder, **LONG)
    return folder


def start(out: Path, flags: dict[str, Any], env: dict[str, str] | None = None, **changed: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "headrace.train", *command_line(out, flags, **{**LONG, **changed})]
    return subprocess.Popen(
        command, env=environment(**(env or {})), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def until(seen: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not seen():
        if process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode} before it was seen: {process.communicate()[1]}")
        assert time.monotonic() < end
        time.sleep(0.002)


def stop(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    process.send_signal(number)
    said = process.communicate(timeout=TIMEOUT_S)[1]
    return process.returncode, said


def progress(out: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((out / "progress.json").read_text())
    except (OSError, ValueError):
        return {}
    return found


def steps(out: Path) -> int:
    found = progress(out)
    return int(found["done"]) if found.get("phase") == "train" else 0


PHASES: dict[str, Callable[[Path], bool]] = {
    "start-up": lambda out: (out / "progress.json").is_file(),
    "step": lambda out: steps(out) >= 3,
    "evaluation": lambda out: progress(out).get("phase") == "score",
    "saving": lambda out: (out / "checkpoint-20").is_dir(),
}


def same_end(out: Path, whole: Path) -> None:
    """Weights, optimizer, torch's random numbers, ledger and log are equal, bit for bit."""
    for name in ("model.safetensors", "checkpoint-60/optimizer.pt"):
        assert sha(out / name) == sha(whole / name), name
    # Python's own random numbers are drawn by clients of buckets too, between their attempts.
    drawn = [torch.load(folder / "checkpoint-60/rng_state.pth", weights_only=False)["cpu"] for folder in (out, whole)]
    assert torch.equal(*drawn)
    assert logged(out) == logged(whole)
    assert Ledger.read(out / "ledger").digests == Ledger.read(whole / "ledger").digests
    assert read_commit(out).ledger_head == read_commit(whole).ledger_head != ""
    assert sorted(r.step for _, r in committed(out).found) == [20, 40, 60]  # commits on the way to a stop are pruned


@pytest.mark.parametrize("phase", PHASES)
def test_stopped_in_any_phase_it_ends_the_same(
    phase: str, whole: Path, train: Train, flags: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(out, flags)
    until(lambda: PHASES[phase](out), process)
    code, said = stop(process, signal.SIGUSR1 if phase == "step" else signal.SIGTERM)
    assert code == 75, said
    assert "Traceback" not in said and "run the same command again" in said
    assert strict(out / "outcome.json")["code"] == 75
    newest = [record.step for _, record in committed(out).found][:1]
    if phase == "start-up":
        assert "before the first step" in said and not newest
    else:
        assert f"checkpoint-{newest[0]}" in said
    facts = train(out, **LONG)
    assert (facts["resumed_from"] is None) == (phase == "start-up")
    same_end(out, whole)


def test_a_second_signal_ends_it_at_once(flags: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(out, flags, per_device_train_batch_size=64, gradient_accumulation_steps=64, save_steps=1)
    until(lambda: (out / "ledger").is_dir(), process)  # steps of many seconds follow
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    code, said = stop(process, signal.SIGTERM)
    assert code == 75 and "a second signal" in said


def test_when_a_commit_does_not_fit_the_grace_the_last_one_stands(flags: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(out, flags, grace_s=0, save_steps=4)
    until(lambda: steps(out) >= 6, process)
    code, said = stop(process, signal.SIGTERM)
    assert code == 75, said
    assert all(record.step % 4 == 0 for _, record in committed(out).found)


def test_the_place_of_a_live_run_is_refused_and_free_after_a_kill(
    train: Train, flags: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(out, flags, run_id="first", max_steps=100_000, eval_strategy="no", max_eval_samples=None)
    until(lambda: (out / "checkpoint-20" / COMMIT).is_file(), process)
    with pytest.raises(Taken, match=rf"in use by the run first: process {process.pid} on ") as refused:
        train(out, **LONG)
    assert refused.value.exit_code == 1
    code, _ = stop(process, signal.SIGKILL)
    assert code == -signal.SIGKILL
    newest = committed(out).found[0][1].step
    facts = train(out, **{**LONG, "max_steps": newest + 1, "eval_strategy": "no", "max_eval_samples": None})
    assert facts["run_id"] == "first" and facts["resumed_from"]


def test_commits_by_time_are_pruned_by_the_next(train: Train, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(out, **{**LONG, "commit_every_s": 0.05})
    same_end(out, whole)


@pytest.fixture(scope="module")
def server() -> Iterator[GcsServer]:
    with GcsServer() as running:
        running.create_bucket("runs")
        yield running


def test_stopped_while_uploading_it_ends_the_same(
    server: GcsServer, whole: Path, train: Train, flags: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, uri = tmp_path / "out", "gs://runs/uploading"
    with FaultProxy(server.url) as proxy:
        env = server.env(endpoint=proxy.url)
        process = start(out, flags, env, store=uri, grace_s=3)
        until(lambda: steps(out) >= 2, process)
        proxy.add("POST /upload", "hang", times=-1)  # from here on nothing arrives
        until(lambda: (out / "checkpoint-20" / COMMIT).is_file(), process)
        code, said = stop(process, signal.SIGTERM)
    assert code == 75, said
    assert "nothing is committed yet" in said
    for key, value in server.env().items():
        monkeypatch.setenv(key, value)
    train(out, **LONG, store=uri)
    same_end(out, whole)
    assert open_store(uri).exists("checkpoint-60/commit.json")


def test_signals_before_and_after_they_are_noted() -> None:
    now = [100.0]
    stopping = Stopping(25.0, clock=lambda: now[0])
    assert stopping.left_s() == 25.0
    with pytest.raises(Preempted, match="SIGTERM before the first step"):
        stopping._take(signal.SIGTERM, None)
    now[0] = 110.0
    assert stopping.left_s() == 15.0
    with pytest.raises(Preempted):
        stopping.noted()
