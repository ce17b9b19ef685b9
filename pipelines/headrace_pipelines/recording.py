"""How a run of the pipeline ended, written down whatever happened."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace import images
from headrace.artifacts.files import canonical_json
from headrace.artifacts.storage import of_job, open_store
from headrace.errors import HeadraceError

RUNS = "runs"
_STATES = {
    "COMPLETE": "SUCCEEDED", "SUCCEEDED": "SUCCEEDED", "FAILED": "FAILED", "CANCELED": "CANCELED",
    "CANCELLED": "CANCELED",
}  # fmt: skip
UNKNOWN = "UNKNOWN"
"""Some back ends still call the steps running when the exit handler starts (kubeflow/pipelines issue 11979)."""


def record(status: Any, parameters: Mapping[str, Any], job: str, *, outcome: Any, summary: Any) -> str:
    """Fill the artifacts `outcome` (JSON) and `summary` (Markdown); where else the outcome lies, or "".

    status: kfp's PipelineTaskFinalStatus of the steps. The outcome also goes to `runs/JOB.json` below `publish`, else
    below `store`: artifacts of a run are hard to find in a year. A place that cannot be written to is warned of; it
    must not make a failure of a run that succeeded.
    """
    found = _outcome(status, parameters, job)
    for artifact, text in ((outcome, json.dumps(found, indent=2) + "\n"), (summary, _markdown(found))):
        Path(artifact.path).parent.mkdir(parents=True, exist_ok=True)
        Path(artifact.path).write_text(text, "utf-8")
    outcome.metadata["state"] = found["state"]
    sys.stdout.write(_markdown(found))
    place = str(parameters.get("publish") or of_job(str(parameters.get("store") or ""), job))
    if not place:
        return ""
    try:
        store = open_store(place).child(RUNS)
        store.write(f"{job}.json", canonical_json(found))
    except (HeadraceError, OSError) as error:
        logging.getLogger(__name__).warning("the outcome is an artifact only: %s", error)
        return ""
    return f"{store.uri}/{job}.json"


def _outcome(status: Any, parameters: Mapping[str, Any], job: str) -> dict[str, Any]:
    return {
        "job": job,
        "state": _STATES.get(str(status.state).upper(), UNKNOWN),
        "back_end_state": str(status.state),
        "error": {"code": status.error_code, "message": status.error_message or ""},
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "parameters": dict(parameters),
        "images": images.tag(),
    }


def _markdown(found: Mapping[str, Any]) -> str:
    parameters = found["parameters"]
    rows = [
        ("state", found["state"]),
        ("error", " ".join(str(found["error"]["message"]).split())),
        ("ended", found["ended"]),
        ("dataset", parameters.get("dataset_name")),
        ("model", parameters.get("model_name_or_path")),
        ("checkpoints", parameters.get("store")),
        ("published to", parameters.get("publish")),
        ("run", found["job"]),
    ]
    lines = [f"| {name} | {value} |" for name, value in rows if value]
    return "\n".join(["| | |", "|---|---|", *lines]) + "\n"
