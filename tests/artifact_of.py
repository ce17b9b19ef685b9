"""kfp's own artifacts over a folder, as its runners make them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from kfp import dsl

A = TypeVar("A", bound=dsl.Artifact)


def artifact(kind: type[A], folder: Path, name: str) -> A:
    """An artifact of a kind whose file or folder is `folder/name`."""
    return kind(name=name, uri=str(folder / name), metadata={})
