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
from headrace.entry import log_to_stderr, run_component, task_folder, task_options
from headrace.options import Options
from headrace.train import step

FINDINGS = "validation.json"
"""Validation's report beside the model: the run's own report tells from it what the stream was."""


def run(
    values: Mapping[str, Any],
    output_root: str,
    *,
    manifest: Any,
    findings: Any,
    heldout: Any,
    duplicates: Any,
    model: Any,
    metrics: Any,
) -> None:
    """Train and fill kfp's artifacts. Without a store and a folder to keep, the model lies in its artifact."""
    options = task_options(train_values(values, manifest.path, heldout.path, duplicates.path))
    log_to_stderr(options)
    artifact, store = Path(model.path), options.train.store
    kept = task_folder(output_root, "train") if output_root or store else nullcontext(artifact)

    def work(options: Options, folder: Path) -> Mapping[str, Any]:
        # A final model's commit vouches for its copy, so that one is left as it was.
        if not (folder / COMMIT).is_file():
            shutil.copyfile(findings.path, folder / FINDINGS)
        return step.run(options, folder)

    with kept as folder:
        run_component(work, options, folder)
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
