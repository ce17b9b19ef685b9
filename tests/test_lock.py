"""The lock gives what pyproject.toml asks for, and names no place to get it from."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "docker" / "locks" / "dev-cpu.txt"


def pins() -> dict[str, str]:
    lines = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def asked() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    everything = [
        *project["dependencies"],
        *(r for e in project["optional-dependencies"].values() for r in e),
    ]
    found = [Requirement(text) for text in everything]
    return [requirement for requirement in found if requirement.name != "headrace"]


def test_the_lock_satisfies_pyproject() -> None:
    locked = pins()
    stale = [
        f"{requirement} (locked: {locked.get(canonicalize_name(requirement.name))})"
        for requirement in asked()
        if not requirement.specifier.contains(locked.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]
    assert not stale, f"run `make lock`: {stale}"


def test_the_lock_holds_plain_pins_only() -> None:
    assert "://" not in LOCK.read_text() and "--" not in LOCK.read_text()
    assert not [name for name, version in pins().items() if "+" in version]
    assert pins()["torch"] in (ROOT / "docker" / "locks" / "dev-cpu.in").read_text()


def test_the_base_brings_no_training_stack() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    light = [*project["dependencies"], *project["optional-dependencies"]["validate"]]
    assert not {Requirement(text).name for text in light} & {"torch", "transformers", "accelerate", "kfp"}
