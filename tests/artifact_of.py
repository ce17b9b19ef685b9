"""kfp's own artifacts over a folder, as its runners make them, and those that validation hands on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from kfp import dsl

from headrace.artifacts.files import write_json
from headrace.inputs import open_heldout, open_manifest, open_reader
from headrace.options import parse_mapping

A = TypeVar("A", bound=dsl.Artifact)


def artifact(kind: type[A], folder: Path, name: str) -> A:
    """An artifact of a kind whose file or folder is `folder/name`."""
    return kind(name=name, uri=str(folder / name), metadata={})


def handed_on(flags: dict[str, Any], folder: Path) -> dict[str, dsl.Artifact]:
    """What validation hands on to training, made in a folder."""
    options = parse_mapping(flags)
    manifest = open_manifest(options)
    heldout = open_heldout(options, open_reader(options, manifest))
    assert heldout is not None
    write_json(folder / "manifest", manifest.to_json())
    heldout.write(folder / "heldout")
    write_json(folder / "findings", {"verdict": "go"})
    (folder / "duplicates").touch()
    kinds = {"manifest": dsl.Artifact, "findings": dsl.Artifact, "heldout": dsl.Dataset, "duplicates": dsl.Dataset}
    return {name: artifact(kind, folder, name) for name, kind in kinds.items()}
