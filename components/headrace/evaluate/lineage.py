"""Where a model came from: data, plan, commit, code, packages, machines, and what the gate said; no secrets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from headrace import __version__
from headrace.artifacts.provenance import hardware, software
from headrace.evaluate.heldout import Chosen
from headrace.evaluate.subject import Subject
from headrace.stream.addresses import cleaned, without_secrets

_TRAINING = (
    "version",
    "git_commit",
    "image",
    "lock_sha256",
    "hardware",
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


def make_lineage(
    subject: Subject, version: str, chosen: Chosen, *, accelerator: str = "", started: float
) -> dict[str, Any]:
    """The content of lineage.json. started: of the monotonic clock; what came of scoring does not depend on it."""
    record, commit = subject.record, subject.commit
    here = software()
    packages = here.pop("packages")
    steps = commit.step if commit else record.get("steps")
    return {
        "headrace": __version__,
        **here,
        "python": packages["python"],
        "hardware": hardware(accelerator),
        "model": without_secrets(subject.location),
        "model_revision": subject.revision or None,
        "version": version,
        "commit_hash": commit.hash if commit else None,
        "step": commit.step if commit else None,
        "parent": cleaned(record.get("parent")),
        "plan_hash": (commit.plan_hash if commit else "") or record.get("plan_hash"),
        "ledger": {"steps": [1, steps] if steps else None, "head": commit.ledger_head if commit else ""},
        "world_size": record.get("world_size"),
        "dataset": _dataset(record, chosen),
        "choice": _choice(record),
        "heldout": {
            "digest": chosen.slice.digest,
            "documents": chosen.slice.table.num_rows,
            "made": chosen.made,
            "origin": chosen.origin,
        },
        "training": {key: record[key] for key in _TRAINING if key in record},
        "durations": {"train_s": record.get("seconds"), "evaluate_s": round(time.monotonic() - started, 1)},
        "packages": packages,
    }


def _choice(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Which rows were trained, as the plan has it."""
    plan = record.get("plan") or {}
    names = ("filters", "dedup", "mixture", "seed", "manifest_hash", "tokenizer_hash")
    return {name: plan[name] for name in names if name in plan} or None


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
