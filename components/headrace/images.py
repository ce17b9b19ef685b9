"""The one place that names the container images: version and revision, never `latest`."""

from __future__ import annotations

import os

from headrace import __version__

ROOMS = ("validate", "train", "evaluate")


def image(room: str) -> str:
    """The image of one room, `REGISTRY/headrace-python-ROOM:VERSION[-REVISION]`.

    `HEADRACE_IMAGE_REGISTRY` and `HEADRACE_IMAGE_REVISION` are read when a pipeline is compiled. "python" is in
    the name because kfp warns about a component image without it.
    """
    if room not in ROOMS:
        raise KeyError(f"no room is called {room!r}; there are {', '.join(ROOMS)}")
    registry = os.environ.get("HEADRACE_IMAGE_REGISTRY", "ghcr.io/headrace")
    revision = os.environ.get("HEADRACE_IMAGE_REVISION", "")
    return f"{registry}/headrace-python-{room}:{__version__}" + (f"-{revision}" if revision else "")
