"""`headrace.json`: what was trained, on what, how, and how it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.artifacts.checkpoint import committed_hash
from headrace.artifacts.files import finite
from headrace.options import Options
from headrace.scoring.models import is_hub_name
from headrace.stream.heldout import HeldOut
from headrace.stream.manifest import Manifest
from headrace.stream.tokenizer import model_folder

RECORD = "headrace.json"


def dataset_facts(manifest: Manifest) -> dict[str, Any]:
    """Which data, by name and by hash; how much of it where every footer was read."""
    counts = ("row_groups", "rows", "text_bytes")
    return {
        "name": manifest.name,
        "config": manifest.config,
        "split": manifest.split,
        "revision": manifest.revision,
        "sources": [
            {"name": p.name, "config": p.config, "split": p.split, "revision": p.revision, "weight": p.weight}
            for p in manifest.parts
        ],
        "text_column": manifest.text_column,
        "manifest_hash": manifest.hash,
        "files": len(manifest.files),
        **{name: getattr(manifest, name) if manifest.known else None for name in counts},
    }


def heldout_facts(heldout: HeldOut | None, manifest: Manifest) -> dict[str, Any] | None:
    """Which documents were held out; of a mixture also which source their files are of, by its number."""
    if heldout is None:
        return None
    facts: dict[str, Any] = {"digest": heldout.digest, "documents": len(heldout.texts)}
    if len(manifest.parts) > 1:
        # Sources may have one name: no label tells which of them it is of, and evaluation sees no manifest.
        files = dict.fromkeys(heldout.table.column("file").to_pylist())
        facts["sources"] = {file: manifest.sources[file] for file in files if file in manifest.sources}
    return facts


def history(log_history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Trainer's log by step: what was logged and evaluated at each, the summary at the end left out."""
    steps: dict[int, dict[str, Any]] = {}
    for entry in log_history:
        if "train_runtime" not in entry:
            steps.setdefault(int(entry["step"]), {"step": int(entry["step"])}).update(entry)
    return [finite(steps[step]) for step in sorted(steps)]


def parent_facts(options: Options) -> dict[str, Any]:
    """What a run begins from: a model by name, revision and commit hash, as far as it has them, or random weights."""
    location = str(options.model.model_name_or_path)
    hub = is_hub_name(location)
    return {
        "model": location,
        "revision": model_folder(location, revision=options.model.model_revision).name if hub else None,
        "commit_hash": None if hub else committed_hash(location),
        "random_weights": options.model.init_from_config,
    }
