"""Evaluation as a task of a pipeline: metrics, reports and papers become the task's artifacts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from headrace.artifacts.files import read_json
from headrace.entry import log_to_stderr, run_component, task_folder, task_options
from headrace.errors import Refused
from headrace.evaluate import step

BEGAN = ("model_name_or_path", "model_revision", "init_from_config", "tokenizer")
"""Flags that say how the training began; the model that it made is another."""


def run(
    values: Mapping[str, Any],
    output_root: str,
    *,
    model: Any,
    heldout: Any,
    metrics: Any,
    report: Any,
    results: Any,
) -> tuple[str, str, str]:
    """Score and publish, and fill kfp's artifacts; what the gate said, why it refused, and the URI of what it let pass.

    A refusal raises nothing here: the pipeline decides what follows.
    """
    passed = {**{k: v for k, v in values.items() if k not in BEGAN}, "model_name_or_path": model.path}
    if Path(heldout.path).stat().st_size:
        passed["heldout"] = heldout.path
    options = task_options(passed)
    log_to_stderr(options)
    kept = Path(results.path)
    with task_folder(output_root, "evaluate") if output_root else nullcontext(kept) as folder:
        reason = published = ""
        try:
            published = str(run_component(step.run, options, folder)["published"])
        except Refused as refused:
            reason = refused.message
        Path(report.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / step.REPORT, report.path)
        if folder != kept:
            kept.mkdir(parents=True, exist_ok=True)
            for name in (step.METRICS, step.LINEAGE, step.CARD, step.SCORES):
                shutil.copyfile(folder / name, kept / name)
        found = read_json(folder / step.METRICS)
    for name, value in found.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            metrics.log_metric(name, value)
    return str(found["gate"]["outcome"]), reason, _seen_from_outside(published, kept, str(results.uri))


def _seen_from_outside(published: str, folder: Path, uri: str) -> str:
    """A place in the artifact's folder as its URI: the folder itself goes with the pod."""
    inside = Path(published)
    return f"{uri}/{inside.relative_to(folder)}" if inside.is_relative_to(folder) else published
