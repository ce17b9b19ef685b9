"""What each step may pull in: the validation image has no torch, and printing help must be quick."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "accelerate", "kfp")


def loaded_after(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has imported after running some code."""
    program = f"{code}\nimport sys\nprint('loaded:', *sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stdout.rsplit("loaded:", 1)[1].split())


@pytest.mark.parametrize(
    "module",
    ["headrace.validate", "headrace.validate.step", "headrace.inputs", "headrace.entry", "headrace_pipelines.__main__"],
)
def test_importing_the_light_half_pulls_in_nothing_heavy(module: str) -> None:
    assert loaded_after(f"import {module}") == set()


@pytest.mark.parametrize("room", ["validate", "train", "evaluate"])
def test_help_of_a_room_needs_nothing_heavy(room: str) -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['headrace', '--help']\n"
        "try:\n"
        f"    runpy.run_module('headrace.{room}', run_name='__main__')\n"
        "except SystemExit as e:\n"
        "    assert e.code == 0"
    )
    assert loaded_after(code) == set()
