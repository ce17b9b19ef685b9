"""`headrace.json`: what was trained, on what, how, and how it went."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import headrace
from headrace.artifacts.files import finite
from headrace.stream.heldout import HeldOut
from headrace.stream.manifest import Manifest

RECORD = "headrace.json"
PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "tokenizers",
    "safetensors",
    "datasets",
    "pyarrow",
    "numpy",
)


def dataset_facts(manifest: Manifest) -> dict[str, Any]:
    """Which data, by name and by hash; how much of it where every footer was read."""
    counts = ("row_groups", "rows", "text_bytes")
    return {
        "name": manifest.name,
        "config": manifest.config,
        "split": manifest.split,
        "revision": manifest.revision,
        "text_column": manifest.text_column,
        "manifest_hash": manifest.hash,
        "files": len(manifest.files),
        **{name: getattr(manifest, name) if manifest.known else None for name in counts},
    }


def heldout_facts(heldout: HeldOut | None) -> dict[str, Any] | None:
    """Which documents were held out."""
    return {"digest": heldout.digest, "documents": len(heldout.texts)} if heldout else None


def history(log_history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Trainer's log by step: what was logged and evaluated at each, the summary at the end left out."""
    steps: dict[int, dict[str, Any]] = {}
    for entry in log_history:
        if "train_runtime" not in entry:
            steps.setdefault(int(entry["step"]), {"step": int(entry["step"])}).update(entry)
    return [finite(steps[step]) for step in sorted(steps)]


def environment() -> dict[str, Any]:
    """The code that ran: commit of the source, versions of what it stands on."""
    versions = {"headrace": headrace.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"git_commit": git_commit(), "packages": versions}


def git_commit() -> str | None:
    """The commit of the running source: what the image was built from, or the checkout's; None when unknown."""
    baked = os.environ.get("HEADRACE_GIT_COMMIT")
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
