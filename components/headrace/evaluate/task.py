"""Evaluation as a task of a pipeline: metrics and report become the task's artifacts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.artifacts.files import read_json
from headrace.entry import run_component, task_folder, task_options
from headrace.evaluate import step


def run(values: Mapping[str, Any], output_root: str, *, model: Any, heldout: Any, metrics: Any, report: Any) -> str:
    """Score and publish, and fill kfp's artifacts; the URI of what was published."""
    # The model is what training made: flags that say how training began are not for it.
    began = ("model_name_or_path", "model_revision", "init_from_config", "tokenizer")
    passed = {**{k: v for k, v in values.items() if k not in began}, "model_name_or_path": model.path}
    if Path(heldout.path).is_file():
        passed["heldout"] = heldout.path
    with task_folder(output_root, "evaluate") as folder:
        facts = run_component(step.run, task_options(passed), folder)
        Path(report.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "report.html", report.path)
        found = read_json(folder / "metrics.json")
    for name, value in found.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            metrics.log_metric(name, value)
    return str(facts["published"])
