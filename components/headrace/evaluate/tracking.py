"""The evaluation's part of the tracked run: scores, tables of them, where the model came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.artifacts.report_format import number
from headrace.tracking.journal import RunFacts, training_row
from headrace.tracking.modes import DISABLED, mode
from headrace.tracking.tracker import WAIT_S, Tracker

TABLES = ("by_source", "by_length", "by_position")
"""Parts of metrics.json that are lists of scores."""


def track(
    output_dir: Path,
    *,
    project: str,
    version: str,
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
    lineage: Mapping[str, Any],
    wait_s: float = WAIT_S,
) -> Path | None:
    """Record the run whose model was scored, and send it where WANDB_API_KEY is set; W&B's folder of it, or None.

    training: headrace.json. Its run goes on where its training was tracked. What the server has of the history is not
    sent again. No model is uploaded. Takes `wait_s` seconds at most; nothing that fails is raised.
    """
    how = mode()
    if how == DISABLED:
        return None
    tracked = training.get("tracking_id")
    facts = RunFacts(
        id=str(tracked or version), name=str(training.get("run_id") or version) if tracked else version,
        project=project, job_type="train" if tracked else "evaluate", config=lineage,
    )  # fmt: skip
    tracker = Tracker(output_dir, facts, how)
    for entry in training.get("history") or ():
        if number(entry.get("step")) is not None:
            tracker.row(int(entry["step"]), training_row(entry))
    tracker.scores(version, dict(_scores(metrics)))
    for name, columns, rows in tables(metrics, training.get("samples") or ()):
        tracker.table(name, columns, rows)
    tracker.finish(wait_s)
    return tracker.recorded()


def _scores(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Numbers, the bounds of intervals, and what the gate said, under `eval/`."""
    for name, value in {**metrics, **(metrics.get("metrics") or {})}.items():
        if number(value) is not None:
            yield f"eval/{name}", value
        elif name.endswith("_interval") and isinstance(value, list | tuple) and len(value) == 2:
            yield from ((f"eval/{name}_{end}", bound) for end, bound in zip(("low", "high"), value, strict=True))
    if isinstance(metrics.get("gate"), Mapping):
        yield "eval/gate", metrics["gate"].get("outcome")


def tables(
    metrics: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """Name, columns and rows of each table: scores with their intervals, scores of parts, generated text."""
    measures = [name for name, value in metrics.items() if number(value) is not None]
    if measures:
        rows = [[m, metrics[m], *(metrics.get(f"{m}_interval") or (None, None))] for m in measures]
        yield "eval/scores", ["metric", "value", "low", "high"], rows
    for name in TABLES:
        parts = [part for part in metrics.get(name) or () if isinstance(part, Mapping)]
        columns = list(dict.fromkeys(key for part in parts for key in part))
        if parts:
            yield f"eval/{name}", columns, [[_cell(part.get(key)) for key in columns] for part in parts]
    if samples:
        sides = ["prompt", "before", "after"]
        yield "eval/samples", sides, [[str(sample.get(side) or "") for side in sides] for sample in samples]


def _cell(value: Any) -> Any:
    """A value that a column can hold: spans such as [65, 256] and [16385, null] as text."""
    if isinstance(value, list | tuple):
        return " to ".join("" if part is None else str(part) for part in value).strip()
    return value
