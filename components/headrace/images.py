"""The one place that names the container images: version and revision, never `latest`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace import __version__
from headrace.artifacts.files import read_json
from headrace.errors import InputError

ROOMS = ("validate", "train", "evaluate")
BUILT = "images.json"
EXPECTED = "HEADRACE_EXPECTED_IMAGE"
"""What a compiled pipeline tells each of its tasks: the tag, `VERSION[-REVISION]`, that it was compiled for."""
HERE = "HEADRACE_IMAGE"
"""The image that a process runs in: baked into it, and said again with its digest by a pipeline on a cluster."""


def image(room: str) -> str:
    """The image of one room, `REGISTRY/headrace-python-ROOM:VERSION[-REVISION][@DIGEST]`.

    What `docker/build` built last in this checkout, unless `HEADRACE_IMAGE_REGISTRY` or `HEADRACE_IMAGE_REVISION`
    says otherwise; they are read when a pipeline is compiled. "python" is in the name because kfp warns about a
    component image without it.
    """
    if room not in ROOMS:
        raise KeyError(f"no room is called {room!r}; there are {', '.join(ROOMS)}")
    found = built().get("images", {}).get(room)
    if found is not None:
        return str(found["image"])
    registry = os.environ.get("HEADRACE_IMAGE_REGISTRY", "ghcr.io/headrace")
    return f"{registry}/headrace-python-{room}:{tag()}"


def tag() -> str:
    """`VERSION[-REVISION]` of the images that a pipeline compiled now names."""
    revision = built().get("revision") or os.environ.get("HEADRACE_IMAGE_REVISION", "")
    return __version__ + (f"-{revision}" if revision else "")


def built() -> Mapping[str, Any]:
    """What `docker/build` noted: version, revision, images; empty if it never ran or the environment overrules it.

    A note of another version counts as none: `check_built` says so where images matter.
    """
    note = _note()
    return note if note.get("version") == __version__ else {}


def check_built() -> None:
    """InputError when the images that were built last are of another version than the pipeline, or not all of them."""
    note = _note()
    if note and note.get("version") != __version__:
        raise InputError(
            f"{_path()} names images of version {note.get('version')}, the pipeline is of version {__version__}",
            "build them anew with docker/build, or remove the file to name published images",
        )
    missing = [room for room in ROOMS if note and room not in (note.get("images") or {})]
    if missing:
        raise InputError(
            f"{_path()} names no image of {' and '.join(missing)}, of revision {note.get('revision')}",
            f"build what is missing: docker/build {' '.join(missing)}",
        )


def check_running(environ: Mapping[str, str] = os.environ) -> None:
    """InputError when this process runs in an image other than the one its pipeline was compiled for."""
    expected = environ.get(EXPECTED, "")
    if not expected:
        return
    version, _, revision = expected.partition("-")
    here = environ.get("HEADRACE_REVISION", "")
    if version != __version__ or (revision and here and revision != here):
        name = environ.get("HEADRACE_IMAGE") or "this installation"
        raise InputError(
            f"the pipeline was compiled for {expected}, but {name} holds {__version__}" + (f"-{here}" if here else ""),
            "compile the pipeline again with the images that it is to run in: docker/build, then headrace compile",
        )


def _note() -> Mapping[str, Any]:
    path = _path()
    if {"HEADRACE_IMAGE_REGISTRY", "HEADRACE_IMAGE_REVISION"} & os.environ.keys() or not path.is_file():
        return {}
    note = read_json(path)
    return note if isinstance(note, dict) else {}


def _path() -> Path:
    """Beside the Dockerfiles of the checkout that this file lies in; an installed package has none."""
    return Path(__file__).parents[2] / "docker" / BUILT
