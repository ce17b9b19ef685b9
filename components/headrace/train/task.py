"""Training as a task of a pipeline: the model artifact says where the committed model lies."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.artifacts.checkpoint import COMMIT, CheckpointRef
from headrace.artifacts.files import read_json
from headrace.artifacts.storage import open_store
from headrace.entry import ready, task_folder, task_options
from headrace.train.attendant import attend, terminal

FINDINGS = "validation.json"
"""Validation's report beside the model: the run's own report tells from it what the stream was."""


def run(
    values: Mapping[str, Any],
    output_root: str,
    *,
    job: str,
    manifest: Any,
    findings: Any,
    heldout: Any,
    duplicates: Any,
    model: Any,
    metrics: Any,
) -> None:
    """Train and fill kfp's artifacts. Without a store and a folder to keep, the model lies in its artifact.

    job: the pipeline run's id. An attempt of a job that failed for good is refused at once.
    """
    given = {k: v for k, v in train_values(values, manifest.path, heldout.path, duplicates.path).items() if v != ""}
    options = task_options(given)
    artifact, store = Path(model.path), options.train.store
    kept = task_folder(output_root, "train") if output_root or store else nullcontext(artifact)
    with kept as folder:
        ready(folder)
        # A final model's commit vouches for its copy, so that one is left as it was.
        if not (folder / COMMIT).is_file():
            shutil.copyfile(findings.path, folder / FINDINGS)
        with terminal(open_store(store) if store else None, job):
            attend(given, folder)
        if folder != artifact:
            artifact.mkdir(parents=True, exist_ok=True)
            place = open_store(store).uri if store else str(folder.absolute())
            replace(CheckpointRef.read(folder), uri=place).write(artifact)
        results = read_json(folder / "train_results.json")
    ref = CheckpointRef.read(artifact)
    model.metadata.update({"step": ref.step, "commit_hash": ref.commit_hash, "uri": ref.uri})
    for name, value in results.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            metrics.log_metric(name, value)


def train_values(values: Mapping[str, Any], manifest: str, heldout: str, duplicates: str) -> dict[str, Any]:
    """The flags of the training in a pipeline, whose flags are meant for three steps."""
    # A bar's carriage returns leave the log of a pod without a line until the end.
    passed = {"disable_tqdm": True, **values, "manifest": manifest}
    if Path(heldout).stat().st_size:
        passed["heldout"] = heldout
    if Path(duplicates).stat().st_size:
        passed["duplicates"] = duplicates
    if not passed.get("do_eval") and str(passed.get("eval_strategy") or "no") == "no":
        # It bounded the slice that evaluate scores; alone it would be refused here.
        passed.pop("max_eval_samples", None)
    return passed
