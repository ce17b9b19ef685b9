"""Training as a task of a pipeline: the model artifact says where the committed model lies."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.artifacts.checkpoint import CheckpointRef
from headrace.artifacts.files import read_json
from headrace.artifacts.storage import open_store
from headrace.entry import run_component, task_folder, task_options
from headrace.train import step


def run(values: Mapping[str, Any], output_root: str, *, manifest: Any, heldout: Any, model: Any, metrics: Any) -> None:
    """Train and fill kfp's artifacts. Without a store and a folder to keep, the model lies in its artifact."""
    store = str(values.get("store") or "")
    artifact = Path(model.path)
    kept = task_folder(output_root, "train") if output_root or store else nullcontext(artifact)
    passed = {"manifest": manifest.path}
    if Path(heldout.path).is_file():
        passed["heldout"] = heldout.path
    with kept as folder:
        run_component(step.run, task_options({**values, **passed}), folder)
        if folder != artifact:
            artifact.mkdir(parents=True, exist_ok=True)
            place = open_store(store).uri if store else str(folder.absolute())
            replace(CheckpointRef.read(folder), uri=place).write(artifact)
        results = read_json(folder / "train_results.json")
    ref = CheckpointRef.read(artifact)
    model.metadata.update({"step": ref.step, "commit_hash": ref.commit_hash, "uri": ref.uri})
    for name, value in results.items():
        if isinstance(value, int | float):
            metrics.log_metric(name, value)
