"""A training killed fifty times at random moments ends as one that nobody touched; prints what was killed where."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tabulate import tabulate

from headrace.artifacts.checkpoint import read_commit
from headrace.stream.ledger import Ledger
from tests.train.conftest import Train, command_line, environment, logged, sha

KILLS = 50
LONG = {
    "save_steps": 50, "save_total_limit": 3, "commit_every_s": 0.7, "logging_steps": 7,
    "eval_strategy": "steps", "eval_steps": 40, "max_eval_samples": 8, "per_device_train_batch_size": 1,
}  # fmt: skip


def phase(out: Path) -> str:
    """What a training was doing, as its progress file says."""
    try:
        found = str(json.loads((out / "progress.json").read_text())["phase"])
    except (OSError, ValueError):
        return "start-up"
    open_ = [p for p in out.glob("checkpoint-*") if not (p / "commit.json").is_file()]
    return "saving" if open_ and found == "train" else found if found in ("train", "score") else "start-up"


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("accumulation", "steps"), [(1, 6_000), (4, 2_400)])
def test_fifty_kills(
    accumulation: int,
    steps: int,
    train: Train,
    flags: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = {**LONG, "max_steps": steps, "gradient_accumulation_steps": accumulation}
    whole, out = tmp_path / "whole", tmp_path / "out"
    train(whole, **long)
    draw, killed = random.Random(7), Counter[tuple[str, str]]()
    while killed.total() < KILLS:
        process = subprocess.Popen(
            [sys.executable, "-m", "headrace.train", *command_line(out, flags, **long)],
            env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        end = time.monotonic() + draw.uniform(3.0, 9.0)
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        assert process.poll() is None, f"it ended after {killed.total()} kills: {process.communicate()[1].decode()}"
        number = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        killed[phase(out), number.name] += 1
        os.kill(process.pid, number)
        said = process.communicate(timeout=120)[1].decode()
        assert process.returncode in (-signal.SIGKILL, 75), said
    train(out, **long)
    for name in ("model.safetensors", f"checkpoint-{steps}/optimizer.pt"):
        assert sha(out / name) == sha(whole / name), name
    assert logged(out) == logged(whole)
    assert Ledger.read(out / "ledger").digests == Ledger.read(whole / "ledger").digests
    assert read_commit(out).ledger_head == read_commit(whole).ledger_head
    phases = sorted({p for p, _ in killed})
    rows = [[p, killed[p, "SIGKILL"], killed[p, "SIGTERM"]] for p in phases]
    with capsys.disabled():
        print(f"\naccumulation {accumulation}: {killed.total()} kills, the same model bit for bit")
        print(tabulate(rows, ["doing", "SIGKILL", "SIGTERM"], tablefmt="github"))
