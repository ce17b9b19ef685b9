"""Trainings of two ranks, in processes of their own, and what is equal between two of them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from headrace.artifacts.checkpoint import read_commit
from tests.train.conftest import command_line, environment, sha

TIMEOUT_S = 200
LONG: dict[str, Any] = {"max_steps": 60, "save_steps": 10}


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def wait_for(path: Path, process: subprocess.Popen[Any]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not path.is_file():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)


def start(output_dir: Path, flags: dict[str, Any], env: Any = None, **changed: Any) -> Any:
    return subprocess.Popen(
        [sys.executable, "-m", "headrace.train", *command_line(output_dir, flags, **changed)],
        env=environment(**env or {}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def torchrun(out: Path, flags: dict[str, Any], **changed: Any) -> Path:
    """The same training of two ranks, under torchrun, that nobody touched."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    done = subprocess.run(
        [*launcher, "-m", "headrace.train", *command_line(out, flags, **changed)], env=environment(),
        capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def equal(one: Path, other: Path) -> None:
    """Two trainings of LONG ended the same, bit for bit."""
    for name in ("model.safetensors", "checkpoint-60/optimizer.pt"):
        assert sha(one / name) == sha(other / name), name
    # Of the random numbers torch's alone: clients of buckets draw from Python's.
    for rank in range(2):
        states = [torch.load(out / f"checkpoint-60/rng_state_{rank}.pth", weights_only=False) for out in (one, other)]
        assert torch.equal(states[0]["cpu"], states[1]["cpu"])
    assert read_commit(one).ledger_head == read_commit(other).ledger_head != ""
