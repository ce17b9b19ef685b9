"""The images as `docker/build` noted them, and the docker command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
Docker = Callable[..., subprocess.CompletedProcess[str]]
ROOMS = ("validate", "train", "evaluate")
# As strict as clusters are: no network, nothing writable but /tmp and the volume, a user that the image does not know.
STRICT = ("--network", "none", "--read-only", "--tmpfs", "/tmp", "--user", "4711:0", "--cap-drop", "ALL")


def docker(*words: str | Path, timeout: float = 150) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *map(str, words)], capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="session")
def note() -> dict[str, Any]:
    """What was built last; made by `make containers`."""
    found: dict[str, Any] = json.loads((ROOT / "docker" / "images.json").read_text())
    return found


@pytest.fixture(scope="session")
def images(note: dict[str, Any]) -> dict[str, str]:
    return {room: note["images"][room]["image"] for room in ROOMS}


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A folder that any user of a container may write, as a cluster's volumes are set up."""
    folder = tmp_path / "out"
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    # What a container's user left belongs to it.
    docker("run", "--rm", "--user", "0", "-v", f"{folder}:/out", _any_image(), "sh", "-c", "rm -rf /out/*")


def _any_image() -> str:
    note = json.loads((ROOT / "docker" / "images.json").read_text())
    return str(note["images"]["validate"]["image"])


@pytest.fixture(scope="session")
def flags() -> list[str]:
    """The shipped corpus and model, where the tests mount them."""
    return ["--dataset_name", "/examples/pydocs", "--model_name_or_path", "/examples/tiny-gpt2"]


def mounted(volume: Path) -> list[str]:
    return ["-v", f"{ROOT / 'examples'}:/examples:ro", "-v", f"{volume}:/outputs"]
