"""Nodes that do not share a disk: two processes, or the pods of a TrainJob, each with folders of its own."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from headrace.artifacts.checkpoint import fetch
from headrace.artifacts.storage import open_store
from headrace.errors import InputError
from headrace.train import trainjob
from headrace.train.node import _take_secrets
from tests.servers.gcs import GcsServer
from tests.servers.kubernetes import TrainJobs
from tests.train.conftest import environment, sha, strict
from tests.train.ranks import LONG, TIMEOUT_S, equal, free_port, start, wait_for
from tests.train.test_component import call


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    with GcsServer() as server:
        server.create_bucket("runs")
        yield server.env()


def apart(folder: Path, flags: dict[str, Any], env: dict[str, str], **changed: Any) -> list[Any]:
    """Two nodes of one rank each, with output folders of their own."""
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    group |= {"MASTER_PORT": free_port(), **env}
    return [start(folder / f"node{r}", flags, {**group, "RANK": str(r)}, **changed) for r in range(2)]


def test_nodes_without_a_common_disk_go_on_from_the_bucket(
    bucket: dict[str, str], two: Path, flags: dict[str, Any], tmp_path: Path
) -> None:
    more = {**LONG, "store": "gs://runs/one"}
    nodes = apart(tmp_path / "before", flags, bucket, **more)
    wait_for(tmp_path / "before" / "node0" / "checkpoint-20" / "commit.json", nodes[0])
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


class Kubelet:
    """Starts the pods of TrainJobs as processes here, with what Trainer's torch-distributed sets for torchrun."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.pods, self.evicted = folder, list[subprocess.Popen[bytes]](), False

    def start(self, job: dict[str, Any]) -> None:
        trainer, port = job["spec"]["trainer"], free_port()
        assert trainer["command"] == ["headrace-entrypoint"] and trainer["args"][0] == "torchrun"
        given = {e["name"]: e["value"] for e in trainer.get("env", [])}
        self.pods = []
        for rank in range(trainer["numNodes"]):
            scratch = self._folder / f"{len(list(self._folder.iterdir()))}"
            scratch.mkdir()
            pet = {
                # As the runtime counts them: the CPUs, where a pod has no GPU.
                "PET_NPROC_PER_NODE": "8", "PET_NNODES": str(trainer["numNodes"]), "PET_NODE_RANK": str(rank),
                "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port,
            }  # fmt: skip
            with (scratch / "log").open("wb") as log:
                pod = subprocess.Popen(
                    [sys.executable, "-m", "torch.distributed.run", *trainer["args"][1:]], stderr=log, stdout=log,
                    env=environment(**given, **pet, TMPDIR=str(scratch)),
                )  # fmt: skip
            self.pods.append(pod)

    def state(self, name: str) -> str:
        codes = [pod.poll() for pod in self.pods]
        if None in codes:
            return "Running"
        return "Failed" if any(codes) else "Complete"

    def evict(self) -> None:
        """As a drained machine does it."""
        self.evicted = True
        for pod in self.pods:
            pod.send_signal(signal.SIGTERM)

    def end(self) -> None:
        for pod in self.pods:
            pod.kill()
            pod.wait()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TrainJobs, Kubelet]]:
    (tmp_path / "pods").mkdir()
    kubelet = Kubelet(tmp_path / "pods")
    with TrainJobs(kubelet.state, kubelet.start) as api:
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", api.kubeconfig(tmp_path))
        monkeypatch.setattr(trainjob, "POLL_S", 0.2)
        # The step sets up logging, for the process that it has to itself.
        for name in ("handlers", "propagate"):
            monkeypatch.setattr(logging.getLogger("headrace"), name, getattr(logging.getLogger("headrace"), name))
        try:
            yield api, kubelet
        finally:
            kubelet.end()
        assert api.violations == []


def test_a_trainjob_that_is_evicted_ends_with_the_weights_of_torchrun(
    cluster: tuple[TrainJobs, Kubelet], bucket: dict[str, str], two: Path, flags: dict[str, Any],
    looked: dict[str, dsl.Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    api, kubelet = cluster
    for name, value in bucket.items():
        monkeypatch.setenv(name, value)
    store = open_store("gs://runs/job")
    state = kubelet.state

    def evict_after_a_commit(name: str) -> str:
        if not kubelet.evicted and store.exists("checkpoint-20/commit.json"):
            kubelet.evict()
        return state(name)

    api.state = evict_after_a_commit
    made = call(
        flags, looked, tmp_path, store="gs://runs/job", job="run-1", num_nodes=2,
        arguments={**{k: float(v) for k, v in LONG.items()}}, pods={"env": bucket},
    )  # fmt: skip
    assert len(api.made) == 2 and kubelet.evicted
    folder = Path(made["model"].path)
    assert [path.name for path in folder.iterdir()] == ["checkpoint.json"]
    assert made["model"].metadata["uri"] == "gs://runs/job" and made["metrics"].metadata["train_loss"] > 0
    fetched = fetch(str(folder), tmp_path / "scratch").folder
    assert sha(fetched / "model.safetensors") == sha(two / "model.safetensors")
    assert any(name.startswith("ledger/") and "00001-of-00002" in name for name in store.names())


def test_what_the_pods_find_wrong_is_final(
    cluster: tuple[TrainJobs, Kubelet], bucket: dict[str, str], flags: dict[str, Any],
    looked: dict[str, dsl.Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One node, as the step's own pod is a launcher; the next attempt does not ask the cluster."""
    api, _ = cluster
    for name, value in bucket.items():
        monkeypatch.setenv(name, value)
    asked: dict[str, Any] = {
        "store": "gs://runs/wrong", "job": "run-1", "pods": {"launcher": True, "env": bucket},
        "arguments": {"dataset_block_size": 4096.0},
    }  # fmt: skip
    with pytest.raises(InputError, match="dataset_block_size is 4096"):
        call(flags, looked, tmp_path, **asked)
    assert (api.made[0]["spec"]["trainer"]["numNodes"] == 1 and not api.jobs) or api.deleted
    with pytest.raises(InputError, match=r"an earlier attempt failed for good: .*4096"):
        call(flags, looked, tmp_path, **asked)
    assert len(api.made) == 1


def test_a_claim_that_all_pods_mount_is_store_and_output_folder(
    cluster: tuple[TrainJobs, Kubelet], flags: dict[str, Any], looked: dict[str, dsl.Artifact], tmp_path: Path
) -> None:
    store, mounted = tmp_path / "runs" / "one", [{"claim": "runs", "path": str(tmp_path / "runs")}]
    pods = {"launcher": True, "volumes": mounted}
    made = call(flags, looked, tmp_path, store=str(store), nproc_per_node=2, pods=pods)
    assert made["model"].metadata["uri"] == str(store)
    assert fetch(made["model"].path, tmp_path / "scratch").folder == store
    assert strict(store / "outcome.json")["world_size"] == 2 and (store / "ledger").is_dir()


@pytest.mark.parametrize(("store", "says"), [("", "has no store"), ("kept", "the pods of a TrainJob do not share")])
def test_a_store_that_all_pods_see_is_asked_for_first(
    store: str, says: str, flags: dict[str, Any], looked: dict[str, dsl.Artifact], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says):
        call(flags, looked, tmp_path, store=store and str(tmp_path / store), num_nodes=2)
    assert not (tmp_path / "kept").exists()


def test_mounted_secrets_reach_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes mounts them: links into a folder of the newest version."""
    version = tmp_path / "headrace-hf" / "..2026"
    version.mkdir(parents=True)
    (version / "HF_TEST_TOKEN").write_text("secret\n")
    (tmp_path / "headrace-hf" / "..data").symlink_to("..2026")
    (tmp_path / "headrace-hf" / "HF_TEST_TOKEN").symlink_to("..data/HF_TEST_TOKEN")
    monkeypatch.setenv("HF_TEST_TOKEN", "")
    monkeypatch.delenv("HF_TEST_TOKEN")
    _take_secrets(tmp_path)
    assert os.environ["HF_TEST_TOKEN"] == "secret"
