"""`docker/build --push` and `docker/pin` against a real registry, which Debian's docker-registry is."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.docker.conftest import ROOT, docker

pytestmark = pytest.mark.container
NOTE = ROOT / "docker" / "images.json"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """`localhost:PORT` of an empty registry; Docker speaks plain HTTP to that host alone."""
    binary = shutil.which("docker-registry")
    if binary is None:
        pytest.skip("docker-registry is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump(config))
    with subprocess.Popen(
        [binary, "serve", str(tmp_path / "registry.yaml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until = time.monotonic() + 20
            while True:
                try:
                    requests.get(f"http://127.0.0.1:{port}/v2/", timeout=1).raise_for_status()
                    break
                except requests.RequestException:
                    assert time.monotonic() < until and process.poll() is None
                    time.sleep(0.1)
            yield f"localhost:{port}"
        finally:
            process.kill()


def digest_of(registry: str, name: str, tag: str) -> str:
    kinds = {"Accept": "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json"}
    host = registry.replace("localhost", "127.0.0.1")
    return requests.get(f"http://{host}/v2/{name}/manifests/{tag}", headers=kinds, timeout=10).headers[
        "Docker-Content-Digest"
    ]


def test_a_pushed_image_is_named_by_its_digest(registry: str, note: dict[str, Any], tmp_path: Path) -> None:
    before = NOTE.read_bytes()
    words = ["validate", "--cpu", "--wheels", "--base", note["images"]["validate"]["base"]]
    try:
        command = [str(ROOT / "docker" / "build"), *words, "--registry", registry, "--push"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr[-2000:]
        tag = f"{note['version']}-{note['revision']}"
        name = f"{registry}/headrace-python-validate:{tag}@{digest_of(registry, 'headrace-python-validate', tag)}"
        assert name in done.stdout
        compiling = ["headrace_pipelines", "compile", "-o", str(tmp_path / "p.yaml")]
        subprocess.run([sys.executable, "-m", *compiling], check=True, cwd=ROOT)
        assert f"image: {name}" in (tmp_path / "p.yaml").read_text()
    finally:
        NOTE.write_bytes(before)


def test_bases_are_pinned_by_what_the_registry_says(registry: str, note: dict[str, Any], tmp_path: Path) -> None:
    base = f"{registry}/base:1.0"
    docker("tag", note["images"]["validate"]["base"], base)
    assert docker("push", "-q", base).returncode == 0
    folder = tmp_path / "docker"
    folder.mkdir()
    shutil.copy(ROOT / "docker" / "pin", folder)
    file, text = folder / "step.Dockerfile", f"# A step.\nARG BASE_IMAGE={base}\nFROM ${{BASE_IMAGE}}\n"
    file.write_text(text)
    for _ in range(2):  # a second time it follows the tag
        done = subprocess.run([sys.executable, folder / "pin"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert file.read_text() == text.replace(base, f"{base}@{digest_of(registry, 'base', '1.0')}")
    pinned = file.read_text()
    (folder / "other.Dockerfile").write_text("ARG BASE_IMAGE=localhost:1/none:1\n")
    done = subprocess.run([sys.executable, folder / "pin"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("headrace: error: no digest was found: ")
    assert file.read_text() == pinned and "Traceback" not in done.stderr
