"""Validation as a task of a pipeline: its files become the task's artifacts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from headrace.artifacts.files import read_json
from headrace.entry import run_component, task_folder, task_options
from headrace.errors import Refused
from headrace.validate import step


def run(
    values: Mapping[str, Any],
    output_root: str,
    *,
    report: Any,
    summary: Any,
    manifest: Any,
    heldout: Any,
    metrics: Any,
) -> str:
    """Validate and fill kfp's artifacts; the verdict. A no-go is an answer here: the pipeline decides what follows."""
    with task_folder(output_root, "validate") as folder:
        with suppress(Refused):  # the report says why, and the verdict below carries it on
            run_component(step.run, task_options(values), folder)
        for artifact, name in (
            (report, step.REPORT_HTML),
            (summary, step.REPORT_MD),
            (manifest, step.MANIFEST),
            (heldout, step.HELDOUT),
        ):
            _fill(Path(artifact.path), folder / name)
        found = read_json(folder / step.REPORT)
    for name, value in {**found["estimates"], **found["facts"]}.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            metrics.log_metric(name, value)
    return str(found["verdict"])


def _fill(target: Path, source: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copyfile(source, target)
    else:
        target.mkdir(exist_ok=True)  # nothing held out: an artifact that is there and empty
