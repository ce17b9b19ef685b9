"""Validation as a task of a pipeline: its files become the task's artifacts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.artifacts.files import read_json
from headrace.entry import log_to_stderr, run_component, task_folder, task_options
from headrace.errors import Refused
from headrace.validate import step


def run(
    values: Mapping[str, Any],
    output_root: str,
    *,
    source: str,
    report: Any,
    summary: Any,
    findings: Any,
    manifest: Any,
    heldout: Any,
    duplicates: Any,
    metrics: Any,
) -> tuple[str, str]:
    """Validate and fill kfp's artifacts; the verdict and, for a no-go, the reason.

    source: what `pin` found, kept with the manifest. A no-go raises nothing here: the pipeline decides what follows.
    """
    options = task_options(values)
    log_to_stderr(options)
    reason = ""
    with task_folder(output_root, "validate") as folder:
        try:
            run_component(step.run, options, folder)
        except Refused as refused:
            reason = f"{refused.message}: {refused.remedy}" if refused.remedy else refused.message
        found = read_json(folder / step.REPORT)
        for artifact, name in (
            (report, step.REPORT_HTML),
            (summary, step.REPORT_MD),
            (findings, step.REPORT),
            (manifest, step.MANIFEST),
            (heldout, step.HELDOUT),
            (duplicates, step.DUPLICATES),
        ):
            _fill(Path(artifact.path), folder / name)
    manifest.metadata["source"] = source
    manifest.metadata["hash"] = found["dataset"]["manifest_hash"]
    heldout.metadata["digest"] = (found["heldout"] or {}).get("digest", "")
    for name, value in {**found["estimates"], **found["facts"]}.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            metrics.log_metric(name, value)
    return str(found["verdict"]), reason


def _fill(target: Path, source: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copyfile(source, target)
    else:
        # Nothing held out, or no copies looked for: an empty file passes through every store, a missing one does not.
        target.touch()
