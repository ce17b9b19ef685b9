"""The whole DAG in the images, through kfp's DockerRunner and through compose."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from headrace.artifacts.files import sha256_file
from headrace_pipelines.__main__ import main
from tests.docker.conftest import ROOT, docker
from tests.pipelines.test_run import only_folder, start

pytestmark = pytest.mark.container
QUICK = ["--config", "examples/quickstart.yaml", "--max_steps", "10", "--torch_threads", "1"]


def test_the_same_weights_as_in_this_environment(tmp_path: Path) -> None:
    hashes = set()
    for runner in ("docker", "subprocess"):
        with start("--runner", runner, *QUICK, "--output_dir", tmp_path / runner, cwd=ROOT) as command:
            out, err = command.communicate(timeout=200)
        assert command.returncode == 0, err
        folder = only_folder(tmp_path / runner)
        assert out.splitlines()[-1] == str(folder / "report.html")
        assert ("Found image" in (folder / "log.txt").read_text()) == (runner == "docker")
        hashes.add(sha256_file(folder / "train" / "model.safetensors"))
    assert len(hashes) == 1


def test_stopped_it_leaves_no_container_behind(tmp_path: Path) -> None:
    steps: list[str | Path] = ["--max_steps", "100000", "--output_dir", tmp_path / "runs"]
    with start("--runner", "docker", *QUICK, *steps, cwd=ROOT) as command:
        until = time.monotonic() + 100
        while not list((tmp_path / "runs").glob("*/train/checkpoint-*/commit.json")):
            assert time.monotonic() < until and command.poll() is None
            time.sleep(0.1)
        label = ["--filter", f"label=headrace.run={only_folder(tmp_path / 'runs')}", "-q"]
        assert docker("ps", *label).stdout
        command.send_signal(signal.SIGTERM)
        _, err = command.communicate(timeout=60)
    assert docker("ps", *label).stdout == "" and "Traceback" not in err
    assert command.returncode == 75
    (outcome,) = (tmp_path / "runs").glob("*/train/outcome.json")
    assert "SIGTERM" in json.loads(outcome.read_text())["error"]


def test_a_mistake_keeps_its_code(tmp_path: Path) -> None:
    with start(
        "--runner", "docker", *QUICK, "--resume_from_checkpoint", "/nowhere", "--output_dir", tmp_path, cwd=ROOT
    ) as command:
        _, err = command.communicate(timeout=100)
    assert command.returncode == 2 and "train: there is no checkpoint folder /nowhere" in err


def test_a_compiled_pipeline_names_what_was_built(images: dict[str, str], tmp_path: Path) -> None:
    command = ["headrace_pipelines", "compile", "-o", str(tmp_path / "p.yaml")]
    subprocess.run([sys.executable, "-m", *command], check=True, cwd=ROOT)
    text = (tmp_path / "p.yaml").read_text()
    assert all(f"image: {name}" in text for name in images.values()) and ":latest" not in text


def test_compose_passes_checkpoints_through_a_bucket(images: dict[str, str], tmp_path: Path) -> None:
    environment = {
        **os.environ, "HEADRACE_TAG": images["train"].rpartition(":")[2], "HEADRACE_STEPS": "10",
        "HEADRACE_IMAGE_REGISTRY": images["train"].rpartition("/")[0],
    }  # fmt: skip
    compose = [
        *os.environ.get("HEADRACE_COMPOSE", "docker compose").split(),
        "-p",
        "headrace-test",
        "-f",
        str(ROOT / "docker/compose.yaml"),
    ]
    try:
        done = subprocess.run(
            [*compose, "run", "--rm", "evaluate"], env=environment, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr
        assert "published  gs://headrace/models/step-10-" in done.stdout
    finally:
        subprocess.run([*compose, "down", "-v"], env=environment, capture_output=True, timeout=100)


def for_another_machine(scratch: Path, name: str, other: str) -> None:
    """The same image under another name, its configuration saying that it is for linux/s390x."""
    docker("save", "-o", scratch / "image.tar", name)
    with tarfile.open(scratch / "image.tar") as tar:
        tar.extractall(scratch / "image", filter="data")
    (entry,) = json.loads((scratch / "image" / "manifest.json").read_text())
    config = json.loads((scratch / "image" / entry["Config"]).read_text())
    (scratch / "image" / entry["Config"]).unlink()
    text = json.dumps(config | {"architecture": "s390x"})
    entry = {
        "Config": f"{hashlib.sha256(text.encode()).hexdigest()}.json",
        "RepoTags": [other],
        "Layers": entry["Layers"],
    }
    (scratch / "image" / entry["Config"]).write_text(text)
    (scratch / "image" / "manifest.json").write_text(json.dumps([entry]))
    with tarfile.open(scratch / "other.tar", "w") as tar:
        for path in sorted((scratch / "image").iterdir()):
            tar.add(path, path.name)
    loaded = docker("load", "-i", scratch / "other.tar")
    assert loaded.returncode == 0, loaded.stderr


def test_images_that_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM scratch\nCOPY Dockerfile /\nLABEL org.opencontainers.image.version=9.9.9\n"
    )
    refused = {
        "there is no image": "headrace-test-none:1",
        "holds Headrace 9.9.9": "headrace-test-old:1",
        "is for linux/s390x": "headrace-test-elsewhere:1",
    }
    docker("build", "-q", "-t", "headrace-test-old:1", tmp_path)
    for_another_machine(tmp_path, "headrace-test-old:1", "headrace-test-elsewhere:1")
    try:
        for says, name in refused.items():
            monkeypatch.setattr("headrace.images.image", lambda room, name=name: name)
            assert main(["run", "--runner", "docker", *QUICK, "--output_dir", str(tmp_path / "runs")]) == 2
            assert says in capsys.readouterr().err and not (tmp_path / "runs").exists()
    finally:
        docker("rmi", "headrace-test-old:1", "headrace-test-elsewhere:1")


@pytest.mark.skipif(os.getuid() != 0, reason="root alone can give a socket to another user")
@pytest.mark.parametrize("command", ["run", "build"])
def test_no_rights_on_the_daemon(command: str, tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    without_override = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    flags = [*QUICK, "--output_dir", str(tmp_path / "runs")]
    words = [sys.executable, "-m", "headrace_pipelines", "run", "--runner", "docker", *flags]
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(path))
        daemon.listen()
        path.chmod(0o600)
        os.chown(path, 65534, 65534)
        tried = subprocess.run(
            [*without_override, *(words if command == "run" else [sys.executable, "docker/build"])],
            env={**os.environ, "DOCKER_HOST": f"unix://{path}"}, cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert tried.returncode == 2 and "may not speak to the Docker daemon" in tried.stderr
    assert not (tmp_path / "runs").exists()
