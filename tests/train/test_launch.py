"""Several processes that `headrace train` starts itself: real ranks, real signals."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import InputError
from headrace.options import parse_mapping
from headrace.train.launch import processes_to_start
from tests.train.conftest import strict
from tests.train.ranks import LONG, TIMEOUT_S, equal, start, wait_for


def test_two_processes_stopped_twice_and_started_again(two: Path, flags: dict[str, Any], tmp_path: Path) -> None:
    """75 crosses torchrun's agent, and the end is torchrun's own, bit for bit."""
    out, more = tmp_path / "out", {**LONG, "nproc_per_node": 2}
    for number, after in ((signal.SIGTERM, 10), (signal.SIGUSR1, 40)):
        with start(out, flags, **more) as process:
            wait_for(out / f"checkpoint-{after}" / "commit.json", process)
            process.send_signal(number)
            said = process.communicate(timeout=TIMEOUT_S)[1]
        assert process.returncode == 75, said
        assert said.count(f"headrace: error: stopped by {number.name}") == 1 and "Traceback" not in said
        assert strict(out / "outcome.json")["code"] == 75 and not (out / "model.safetensors").exists()
    with start(out, flags, **more) as process:
        said = process.communicate(timeout=TIMEOUT_S)[1]
    assert process.returncode == 0, said
    assert strict(out / "outcome.json")["world_size"] == 2 and said.count("going on from") == 1
    equal(two, out)


def test_a_mistake_that_only_the_ranks_find_is_told_once(flags: dict[str, Any], tmp_path: Path) -> None:
    with start(tmp_path, flags, dataset_name="/nowhere", nproc_per_node=2) as process:
        said = process.communicate(timeout=TIMEOUT_S)[1]
    assert process.returncode == 2 and said.count("/nowhere") == 1 and "Traceback" not in said, said
    assert strict(tmp_path / "outcome.json")["code"] == 2


def test_a_launcher_that_is_killed_takes_its_ranks_along(flags: dict[str, Any], tmp_path: Path) -> None:
    with start(tmp_path, flags, max_steps=100_000, save_steps=10, save_total_limit=1, nproc_per_node=2) as process:
        wait_for(tmp_path / "checkpoint-10" / "commit.json", process)
        process.kill()
        process.communicate(timeout=60)  # ends when the ranks have closed their ends of the pipes
    assert strict(tmp_path / "outcome.json")["code"] == 75


def test_a_rank_that_is_killed_is_named_by_its_signal(flags: dict[str, Any], tmp_path: Path) -> None:
    with start(tmp_path, flags, max_steps=100_000, save_steps=10, save_total_limit=1, nproc_per_node=2) as process:
        wait_for(tmp_path / "checkpoint-10" / "commit.json", process)
        owner = json.loads((tmp_path / ".headrace.lock").read_text())["pid"]
        ranks = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        assert str(owner) in ranks
        subprocess.run(["kill", "-KILL", next(pid for pid in ranks if pid != str(owner))], check=True)
        said = process.communicate(timeout=TIMEOUT_S)[1]
    assert process.returncode == 1 and "killed by SIGKILL" in said, said


def test_who_starts_how_many() -> None:
    def number(environ: dict[str, str], **flags: Any) -> int:
        return processes_to_start(parse_mapping({"use_cpu": True, **flags}), environ)

    four = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
    assert [number({}), number({}, nproc_per_node=3), number(four)] == [1, 3, 1]
    assert number(four, nproc_per_node=2, num_nodes=2) == 1
    for environ, flags, says in (
        (four, {"nproc_per_node": 4}, r"started 2 process\(es\)"),
        (four, {"num_nodes": 4}, "started 4 processes, 2 of them"),
        ({}, {"num_nodes": 2}, "this is one machine"),
    ):
        with pytest.raises(InputError, match=says):
            number(environ, **flags)
    for name in ("num_nodes", "nproc_per_node"):
        with pytest.raises(InputError, match=f"--{name} is 0, expected 1 or more"):
            number({}, **{name: 0})
