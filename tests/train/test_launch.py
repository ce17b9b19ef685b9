"""Several processes that `headrace train` starts itself, and nodes that do not share a disk."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from headrace.artifacts.checkpoint import read_commit
from headrace.errors import InputError
from headrace.options import parse_mapping
from headrace.train.launch import processes_to_start
from tests.servers.gcs import GcsServer
from tests.train.conftest import command_line, environment, sha, strict
from tests.train.test_processes import TIMEOUT_S, _port, _wait_for

# What is equal between two trainings of the same two ranks, bit for bit.
SAME = ("model.safetensors", "checkpoint-60/optimizer.pt")
LONG: dict[str, Any] = {"max_steps": 60, "save_steps": 10}


def start(output_dir: Path, flags: dict[str, Any], env: Any = None, **changed: Any) -> Any:
    return subprocess.Popen(
        [sys.executable, "-m", "headrace.train", *command_line(output_dir, flags, **changed)],
        env=environment(**env or {}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def two(flags: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two ranks under torchrun that nobody touched."""
    out = tmp_path_factory.mktemp("two") / "out"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", _port()]
    done = subprocess.run(
        [*torchrun, "-m", "headrace.train", *command_line(out, flags, **LONG)], env=environment(),
        capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def equal(one: Path, other: Path) -> None:
    for name in SAME:
        assert sha(one / name) == sha(other / name), name
    # Of the random numbers torch's alone: clients of buckets draw from Python's.
    for rank in range(2):
        states = [torch.load(out / f"checkpoint-60/rng_state_{rank}.pth", weights_only=False) for out in (one, other)]
        assert torch.equal(states[0]["cpu"], states[1]["cpu"])
    assert read_commit(one).ledger_head == read_commit(other).ledger_head != ""


def test_two_processes_stopped_twice_and_started_again(two: Path, flags: dict[str, Any], tmp_path: Path) -> None:
    """75 crosses torchrun's agent, and the end is torchrun's own, bit for bit."""
    out, more = tmp_path / "out", {**LONG, "nproc_per_node": 2}
    for number, after in ((signal.SIGTERM, 10), (signal.SIGUSR1, 40)):
        with start(out, flags, **more) as process:
            _wait_for(out / f"checkpoint-{after}" / "commit.json", process)
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
        _wait_for(tmp_path / "checkpoint-10" / "commit.json", process)
        process.kill()
        process.communicate(timeout=60)  # ends when the ranks have closed their ends of the pipes
    assert strict(tmp_path / "outcome.json")["code"] == 75


def test_a_rank_that_is_killed_is_named_by_its_signal(flags: dict[str, Any], tmp_path: Path) -> None:
    with start(tmp_path, flags, max_steps=100_000, save_steps=10, save_total_limit=1, nproc_per_node=2) as process:
        _wait_for(tmp_path / "checkpoint-10" / "commit.json", process)
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


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    with GcsServer() as server:
        server.create_bucket("runs")
        yield server.env()


def apart(folder: Path, flags: dict[str, Any], env: dict[str, str], **changed: Any) -> list[Any]:
    """Two nodes of one rank each, with output folders of their own."""
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    group |= {"MASTER_PORT": _port(), **env}
    return [start(folder / f"node{r}", flags, {**group, "RANK": str(r)}, **changed) for r in range(2)]


def test_nodes_without_a_common_disk_go_on_from_the_bucket(
    bucket: dict[str, str], two: Path, flags: dict[str, Any], tmp_path: Path
) -> None:
    more = {**LONG, "store": "gs://runs/one"}
    nodes = apart(tmp_path / "before", flags, bucket, **more)
    _wait_for(tmp_path / "before" / "node0" / "checkpoint-20" / "commit.json", nodes[0])
    nodes[1].send_signal(signal.SIGTERM)
    said = [node.communicate(timeout=TIMEOUT_S)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [75, 75], said
    # Other machines, with nothing on their disks.
    nodes = apart(tmp_path / "after", flags, bucket, **more)
    said = [node.communicate(timeout=TIMEOUT_S)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert said[0].count("going on from") == 1
    equal(two, tmp_path / "after" / "node0")
    assert not (tmp_path / "after" / "node1" / "model.safetensors").exists()


def test_nodes_without_a_common_disk_nor_a_bucket_are_refused(flags: dict[str, Any], tmp_path: Path) -> None:
    nodes = apart(tmp_path, flags, {})
    said = [node.communicate(timeout=TIMEOUT_S)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [2, 2], said
    assert "takes one disk for all nodes" in said[0] and "--store" in said[0]
