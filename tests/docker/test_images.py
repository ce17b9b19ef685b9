"""What is in each image, and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace import __version__
from tests.docker.conftest import ROOMS, docker

pytestmark = pytest.mark.container
MEGABYTES = {"validate": 600, "train": 2000, "evaluate": 2000}


@pytest.fixture(params=ROOMS)
def room(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def inside(image: str, script: str) -> str:
    done = docker("run", "--rm", image, "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_name_labels_user_and_size(room: str, images: dict[str, str], note: dict[str, Any]) -> None:
    assert images[room].endswith(f":{__version__}-{note['revision']}")
    found = json.loads(docker("image", "inspect", images[room]).stdout)[0]
    labels = found["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__ and labels["org.opencontainers.image.source"]
    assert labels["org.opencontainers.image.revision"] == note["revision"]
    assert found["Config"]["User"] == "10001:0" and "Healthcheck" not in found["Config"]
    assert found["Id"] == note["images"][room]["id"]
    assert found["Size"] <= MEGABYTES[room] * 1e6


def test_it_holds_no_compiler_no_cache_and_nothing_of_the_machine_that_built_it(
    room: str, images: dict[str, str], note: dict[str, Any]
) -> None:
    script = """
      for tool in gcc cc g++ ld; do command -v $tool; done
      ls -d /root/.cache /tmp/* /wheels /locks /tools /source /opt/headrace/bin/pip* /etc/pip.conf /etc/xdg/pip \
        /usr/local/share/ca-certificates/* 2>/dev/null
      find /var/lib/apt/lists -type f -size +0
      env | grep -iE 'proxy|token|key|pip_index|pip_find'
      true"""
    assert inside(images[room], script) == ""
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", images[room]).stdout
    assert "PIP_INDEX" not in history and "PIP_FIND" not in history and "OFFLINE" not in history
    if note["images"][room]["base"].startswith("headrace-base:"):  # made here, of Debian's packages
        assert inside(images[room], "ls /etc/apt/sources.list* 2>/dev/null; find /var/cache -type f; true") == ""
        counted = inside(
            images[room],
            "grep -c BEGIN /etc/ssl/certs/ca-certificates.crt; cat /usr/share/ca-certificates/*/*.crt | grep -c BEGIN",
        ).split()
        assert counted[0] == counted[1]


def test_validation_holds_no_torch_and_kfp_runs_in_all(images: dict[str, str]) -> None:
    listed = "ls /opt/headrace/lib/python3*/site-packages"
    packages = {room: set(inside(images[room], listed).split()) for room in ROOMS}
    assert not packages["validate"] & {"torch", "transformers", "accelerate", "nvidia", "triton", "evaluate"}
    assert {"torch", "transformers", "accelerate"} <= packages["train"] & packages["evaluate"]
    for room in ROOMS:
        assert "kfp" in packages[room]
        inside(images[room], "_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --help >/dev/null")


def test_the_entry_point_runs_a_step_a_shell_or_python(images: dict[str, str]) -> None:
    assert docker("run", "--rm", images["train"], "--help").stdout.startswith("usage: headrace train")
    assert docker("run", "--rm", images["validate"], "headrace", "--version").stdout == f"headrace {__version__}\n"
    assert docker("run", "--rm", images["validate"], "python3", "-c", "print(6 * 7)").stdout == "42\n"
    assert docker("run", "--rm", images["validate"], "sh", "-ec", "exit 7").returncode == 7
    first = docker("run", "--rm", images["evaluate"], "cat", "/proc/1/comm")
    assert first.returncode == 2  # neither a step's flag nor a shell
    assert docker("run", "--rm", images["evaluate"], "/bin/cat", "/proc/1/comm").stdout == "tini\n"
