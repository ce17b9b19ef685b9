"""The lock gives what pyproject.toml asks for, and names no place to get it from."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "docker" / "locks" / "dev-cpu.txt"


def pins(lock: Path = LOCK) -> dict[str, str]:
    lines = [line for line in lock.read_text().splitlines() if not line.startswith("#")]
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


@pytest.mark.parametrize("lock", sorted(LOCK.parent.glob("*.txt")), ids=lambda path: path.stem)
def test_a_lock_holds_plain_pins_only(lock: Path) -> None:
    assert "://" not in lock.read_text() and "--" not in lock.read_text()
    assert not [name for name, version in pins(lock).items() if "+" in version]


def test_the_development_lock_has_the_exact_torch() -> None:
    assert pins()["torch"] in (ROOT / "docker" / "locks" / "dev-cpu.in").read_text()


def test_the_base_brings_no_training_stack() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    light = [*project["dependencies"], *project["optional-dependencies"]["validate"]]
    assert not {Requirement(text).name for text in light} & {"torch", "transformers", "accelerate", "kfp"}


def needed(*extras: str) -> set[str]:
    """Every package that headrace with these extras needs on this machine, by what the installed ones declare."""
    found: set[str] = set()
    todo = [("headrace", frozenset(extras))]
    while todo:
        name, wanted = todo.pop()
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            marks = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in (*wanted, "")
            )
            step = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            if marks and (step[0] not in found or step[1]):
                if step not in todo:
                    todo.append(step)
                found.add(step[0])
    return found - {"headrace", "pip"}


@pytest.mark.parametrize(
    ("lock", "extras"),
    [("validate", ["validate"]), ("train-cpu", ["train", "nodes"]), ("evaluate-cpu", ["evaluate"])],
)
def test_an_image_holds_what_its_step_needs_and_nothing_else(lock: str, extras: list[str]) -> None:
    locked, tested = pins(LOCK.with_name(f"{lock}.txt")), pins()
    assert set(locked) == needed(*extras, "component"), "run `make image-locks`"
    assert locked == {name: tested[name] for name in locked}, "run `make image-locks`"


@pytest.mark.parametrize("room", ["train", "evaluate"])
def test_the_cuda_locks_add_only_what_torch_needs_of_cuda(room: str) -> None:
    cpu, cuda = (pins(LOCK.with_name(f"{room}-{kind}.txt")) for kind in ("cpu", "cuda"))
    assert cpu.items() <= cuda.items()
    added = cuda.keys() - cpu.keys()
    assert "nvidia-nccl-cu13" in added and all(name.startswith(("nvidia-", "cuda-", "triton")) for name in added)
