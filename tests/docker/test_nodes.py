"""Several nodes for real: the Kubeflow SDK's back end for Docker, the train image, a gloo group over two containers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from headrace.artifacts.checkpoint import fetch
from headrace.artifacts.files import sha256_file
from headrace.artifacts.storage import open_store
from headrace.errors import Preempted
from headrace.train.component import train
from tests.artifact_of import artifact, handed_on
from tests.docker.conftest import ROOT, docker, mounted
from tests.servers.gcs import GcsServer

pytestmark = pytest.mark.container
FLAGS: dict[str, Any] = {
    "dataset_name": "gs://runs/pydocs/*.parquet", "model_name_or_path": "gs://runs/tiny-gpt2", "init_from_config": True,
    "max_steps": 200, "save_steps": 10, "save_total_limit": 2, "per_device_train_batch_size": 2, "torch_threads": 1,
    "use_cpu": True, "dataset_block_size": 64, "lanes": 4, "disable_tqdm": True,
}  # fmt: skip
LABEL = "label=trainer.kubeflow.org/trainjob-name"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A bucket with corpus and model, at an address that containers of every network reach."""
    gateway = docker("network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}").stdout.strip()
    with GcsServer(gateway) as server:
        server.create_bucket("runs")
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        store = open_store("gs://runs")
        for path in [*(ROOT / "examples/pydocs/data").iterdir(), *(ROOT / "examples/tiny-gpt2").iterdir()]:
            store.upload_file(path, f"{'pydocs' if path.suffix == '.parquet' else 'tiny-gpt2'}/{path.name}")
        yield server.env()


@pytest.fixture
def looked(bucket: dict[str, str], tmp_path: Path) -> dict[str, dsl.Artifact]:
    """What validation hands on."""
    return handed_on(FLAGS, tmp_path)


def step(looked: dict[str, dsl.Artifact], folder: Path, env: dict[str, str]) -> Path:
    """The train component on two nodes; its model artifact's folder."""
    model = artifact(dsl.Model, folder, "model")
    train.python_func(
        dataset_name=FLAGS["dataset_name"], model_name_or_path=FLAGS["model_name_or_path"],
        arguments={k: v for k, v in FLAGS.items() if k not in ("dataset_name", "model_name_or_path")},
        store="gs://runs/nodes", job="run-1", num_nodes=2, pods={"backend": "docker", "env": env}, **looked,
        model=model, metrics=artifact(dsl.Metrics, folder, "metrics"),
    )  # fmt: skip
    return Path(model.path)


def stop_after_a_commit() -> None:
    """SIGTERM to this process, as to a step's, once something is committed."""
    store = open_store("gs://runs/nodes")
    until = time.monotonic() + 150
    while not any(name.endswith("/commit.json") for name in store.names("checkpoint-")):
        assert time.monotonic() < until
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)


def test_two_containers_stopped_and_resumed_train_what_torchrun_does(
    bucket: dict[str, str], looked: dict[str, dsl.Artifact], images: dict[str, str], volume: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path))  # the back end keeps a folder a job below it
    flags = [word for name, value in FLAGS.items() for word in (f"--{name}", str(value).lower())]
    flags[flags.index("--dataset_name") + 1] = FLAGS["dataset_name"]
    env = [word for name, value in bucket.items() for word in ("-e", f"{name}={value}")]
    torchrun = ["torchrun", "--nproc_per_node", "2", "--master_port", "29511", "-m", "headrace.train"]
    whole = docker(
        "run", "--rm", *env, *mounted(volume), images["train"], *torchrun, *flags, "--output_dir", "whole", timeout=200
    )
    assert whole.returncode == 0, whole.stderr
    stopper = threading.Thread(target=stop_after_a_commit, daemon=True)
    stopper.start()
    with pytest.raises(Preempted, match="stopped by SIGTERM"):
        step(looked, tmp_path, bucket)
    stopper.join()
    assert docker("ps", "-aq", "--filter", LABEL).stdout == ""
    folder = step(looked, tmp_path, bucket)
    try:
        ran = docker("ps", "-a", "--filter", LABEL, "--format", "{{.Image}} {{.Status}}").stdout.splitlines()
        assert len(ran) == 2 and all(line.startswith(f"{images['train']} Exited (0)") for line in ran)
        said = docker("logs", docker("ps", "-aq", "--filter", LABEL, "--filter", "name=node-0").stdout.strip())
        assert "going on from" in said.stderr and "2 rank(s)" in said.stderr
        model = fetch(str(folder), tmp_path / "scratch").folder / "model.safetensors"
        assert sha256_file(model) == sha256_file(volume / "whole" / "model.safetensors")
    finally:
        for container in docker("ps", "-aq", "--filter", LABEL).stdout.split():
            docker("rm", "-f", container)
        docker("network", "prune", "-f", "--filter", LABEL)
