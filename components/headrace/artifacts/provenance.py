"""What runs here: code, image, packages, machine. Nothing that changes by the hour, and no secrets."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import headrace
from headrace import __version__

PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "tokenizers",
    "safetensors",
    "datasets",
    "huggingface_hub",
    "pyarrow",
    "numpy",
)
_NOT_LOCKED = ("headrace", "pip")


def software() -> dict[str, Any]:
    """Image and code that run here, versions of what they stand on, and the digest of everything installed."""
    installed = {_normal(d.name): d.version for d in metadata.distributions()}
    return {
        "git_commit": git_commit(),
        "image": os.environ.get("HEADRACE_IMAGE") or None,
        "lock_sha256": lock_digest(f"{name}=={version}" for name, version in installed.items()),
        "packages": {
            "headrace": __version__,
            "python": platform.python_version(),
            **{name: installed[_normal(name)] for name in PACKAGES if _normal(name) in installed},
        },
    }


def lock_digest(lines: Iterable[str]) -> str:
    """Hex SHA-256 of what `name==version` lines pin, in any order: equal for a lock and for what it installed.

    Names as PyPI compares them; builds of one version (+cpu, +cu130) are not told apart. Left out are comments, and
    headrace and pip, which no lock names.
    """
    found = set()
    for line in lines:
        name, separator, version = line.partition("#")[0].strip().partition("==")
        if separator and _normal(name) not in _NOT_LOCKED:
            found.add(f"{_normal(name)}=={version.partition('+')[0]}\n")
    return hashlib.sha256("".join(sorted(found)).encode()).hexdigest()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def hardware(accelerator: str = "") -> dict[str, Any]:
    """The machine: architecture, cores that this process may use, memory in bytes, and the accelerator it was given."""
    return {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "accelerator": accelerator or None,
    }


def git_commit() -> str | None:
    """The commit of the running source: what the image was built from, or the checkout's; None when unknown."""
    baked = os.environ.get("HEADRACE_REVISION")
    if baked:
        return baked
    source = Path(headrace.__file__)
    try:
        # Installed packages may lie in the tree of another repository, which does not track them.
        _git("ls-files", "--error-unmatch", source.name, folder=source.parent)
        return _git("rev-parse", "HEAD", folder=source.parent)
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*words: str, folder: Path) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
