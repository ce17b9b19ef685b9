"""Where a model came from: data, plan, commit, code and packages; no secrets, and nothing that changes by the hour."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from headrace import __version__
from headrace.evaluate.addresses import without_secrets
from headrace.evaluate.heldout import Chosen
from headrace.evaluate.subject import Subject

PACKAGES = (
    "accelerate",
    "datasets",
    "huggingface_hub",
    "numpy",
    "pyarrow",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)
_TRAINING = (
    "version",
    "git_commit",
    "global_batch",
    "per_device_batch",
    "accumulation",
    "block",
    "lanes",
    "steps",
    "tokens",
    "parameters",
    "packages",
)


def make_lineage(subject: Subject, chosen: Chosen) -> dict[str, Any]:
    """The content of lineage.json: equal for the same model, documents and software."""
    record, commit = subject.record, subject.commit
    return {
        "headrace": __version__,
        "git_commit": git_commit(),
        "image": os.environ.get("HEADRACE_IMAGE") or None,
        "python": platform.python_version(),
        "model": without_secrets(subject.location),
        "model_revision": subject.revision or None,
        "version": subject.version,
        "commit_hash": commit.hash if commit else None,
        "step": commit.step if commit else None,
        "plan_hash": (commit.plan_hash if commit else "") or record.get("plan_hash"),
        "ledger_head": commit.ledger_head if commit else "",
        "world_size": record.get("world_size"),
        "dataset": _dataset(record, chosen),
        "heldout": {
            "digest": chosen.slice.digest,
            "documents": chosen.slice.table.num_rows,
            "made": chosen.made,
            "origin": chosen.origin,
        },
        "training": {key: record[key] for key in _TRAINING if key in record},
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _dataset(record: Mapping[str, Any], chosen: Chosen) -> dict[str, Any] | None:
    """What the model was trained on as its record has it, else what it is scored on."""
    dataset = record.get("dataset")
    if isinstance(dataset, dict):
        return dataset
    manifest = chosen.manifest
    if manifest is None:
        return None
    return {
        "name": without_secrets(manifest.name),
        "config": manifest.config,
        "split": manifest.split,
        "revision": manifest.revision,
        "manifest_hash": manifest.hash,
    }


def git_commit() -> str | None:
    """The commit of the repository that this very file is tracked in, or that the image was built from; else None."""
    if os.environ.get("HEADRACE_REVISION"):
        return os.environ["HEADRACE_REVISION"]
    here = Path(__file__)
    for command in (["ls-files", "--error-unmatch", here.name], ["rev-parse", "HEAD"]):
        try:
            done = subprocess.run(
                ["git", "-C", str(here.parent), *command], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
