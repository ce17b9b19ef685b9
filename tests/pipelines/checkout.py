"""A copy of what `python -m headrace_pipelines.docs` reads and writes, to break in a test."""

from __future__ import annotations

import shutil
from pathlib import Path

from headrace.images import ROOMS

ROOT = Path(__file__).parents[2]
FILES = ("README.md", "metadata.yaml", "OWNERS", "example_pipelines.py")


def copy_checkout(target: Path) -> None:
    """The rooms' papers, docs/flags.md and pyproject.toml, at the same relative paths."""
    rooms = [f"components/headrace/{room}/{name}" for room in ROOMS for name in FILES]
    for name in (*rooms, "docs/flags.md", "pyproject.toml"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)
