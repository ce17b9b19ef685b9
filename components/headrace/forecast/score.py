"""How wrong a plan was: its figures beside those that a training left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from headrace.artifacts import report_format as show
from headrace.artifacts.checkpoint import committed
from headrace.artifacts.files import read_json
from headrace.errors import InputError
from headrace.forecast.make import VERSION

_PLACES = ("plan.json", "../plan.json", "../validate/plan.json")


def compare(output_dir: Path, plan_file: Path | None) -> dict[str, Any]:
    """Predicted and measured, each with the relative error; InputError when one of the two is not there."""
    plan = _plan(output_dir, plan_file)
    run = measured(output_dir)
    rows = [
        _row("tokens", plan["data"]["tokens_per_step"] * run["steps"], run["tokens"]),
        _row("steps", plan["data"]["steps"], run["steps"] if run["finished"] else None),
        _row("parameters", plan["model"]["parameters"], run["parameters"]),
        _row("step_s", plan["pace"]["step_s"], run["seconds"] / run["steps"]),
        _row("seconds", [s * run["steps"] for s in plan["pace"]["step_s"]], run["seconds"]),
        _row("tokens_per_s", plan["pace"]["tokens_per_s"], run["tokens"] / run["seconds"]),
        _row("peak_memory_bytes", _memory(plan), run["memory_bytes"]),
        _row("checkpoint_bytes", plan["checkpoints"]["checkpoint_bytes"], run["checkpoint_bytes"]),
        _row("checkpoint_files", plan["checkpoints"]["files"], run["checkpoint_files"]),
        _row("checkpoints_kept", plan["checkpoints"]["kept"], run["kept"] if run["finished"] else None),
    ]
    return {
        "version": VERSION,
        "run": str(output_dir),
        "finished": run["finished"],
        "differences": _differences(plan, run),
        "rows": rows,
    }


def _plan(output_dir: Path, named: Path | None) -> Mapping[str, Any]:
    places = [named] if named else [output_dir / place for place in _PLACES]
    found = next((p for p in places if p.is_file()), None)
    if found is None:
        raise InputError(
            f"there is no plan at {', '.join(map(str, places))}",
            "make one with `headrace plan` before training, and name it with --plan",
        )
    plan = read_json(found)
    if not isinstance(plan, dict) or plan.get("version") != VERSION or "pace" not in plan:
        raise InputError(f"{found} is no plan of this version of Headrace", "make it with `headrace plan`")
    return plan


def _memory(plan: Mapping[str, Any]) -> list[float]:
    """What the log of training counts: an accelerator's allocated tensors, or the whole process."""
    peak, process = plan["memory"]["peak"], plan["memory"]["process"]
    if plan["hardware"]["name"] == "cpu":
        return list(peak)
    return [p - q for p, q in zip(peak, process, strict=True)]


def measured(output_dir: Path) -> dict[str, Any]:
    """What a training recorded of itself: of the whole run, or up to its newest commit; InputError when nothing."""
    checkpoints = committed(output_dir).found
    newest = checkpoints[0] if checkpoints else None
    facts: dict[str, Any] = {
        "checkpoint_bytes": sum(f["size"] for f in newest[1].files.values()) if newest else None,
        "checkpoint_files": len(newest[1].files) + 1 if newest else None,
        "kept": len(checkpoints),
    }
    if (output_dir / "headrace.json").is_file():
        record = read_json(output_dir / "headrace.json")
        history = record["history"]
        names = ("steps", "tokens", "seconds", "parameters", "world_size", "per_device_batch", "global_batch", "block")
        facts |= {name: record[name] for name in names} | {"finished": True}
    elif newest is not None:
        state = read_json(newest[0] / "data_state.json")
        history = read_json(newest[0] / "trainer_state.json")["log_history"]
        facts |= {
            "finished": False, "steps": state["step"], "tokens": state["trained"]["tokens"],
            "seconds": state["trained"]["seconds"], "world_size": state["world_size"], "parameters": None,
            "per_device_batch": None, "global_batch": state["plan"]["global_batch"], "block": state["plan"]["block"],
        }  # fmt: skip
    else:
        raise InputError(
            f"{output_dir} is no output of `headrace train`: it has neither a committed checkpoint nor headrace.json",
            "name the --output_dir of a training",
        )
    if not facts["steps"] or not facts["seconds"]:
        raise InputError(f"{output_dir}: nothing was trained there", "name the --output_dir of a training")
    peaks = [entry["memory_mb"] * 1e6 for entry in history if entry.get("memory_mb")]
    return facts | {"memory_bytes": max(peaks, default=None)}


def _differences(plan: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    """Where the run was another than the planned one."""
    planned = {
        "world_size": plan["run"]["ranks"], "per_device_batch": plan["run"]["micro_batch"],
        "global_batch": plan["run"]["global_batch"], "block": plan["model"]["block"],
    }  # fmt: skip
    return [
        f"{name}: planned {value}, run with {run[name]}"
        for name, value in planned.items()
        if run[name] is not None and run[name] != value
    ]


def _row(name: str, predicted: float | Sequence[float], found: float | None) -> dict[str, Any]:
    """One figure. error: of the middle of the range, relative to what was measured; inside: whether the range holds."""
    low, high = (predicted, predicted) if isinstance(predicted, int | float) else (predicted[0], predicted[1])
    middle = (low * high) ** 0.5  # ranges are of factors
    return {
        "name": name,
        "predicted": [low, high],
        "measured": found,
        "error": (middle - found) / found if found else None,
        "inside": low <= found <= high if found and low != high else None,
    }


def terminal(found: Mapping[str, Any]) -> str:
    """The comparison for a terminal."""
    rows = []
    for row in found["rows"]:
        low, high = row["predicted"]
        spread = show.significant(low) if low == high else f"{show.significant(low)} – {show.significant(high)}"
        inside = {True: "inside", False: "outside", None: ""}[row["inside"]]
        error = "not recorded" if row["error"] is None else f"{100 * row['error']:+.1f} %"
        rows.append((row["name"].replace("_", " "), spread, show.significant(row["measured"]), error, inside))
    state = "finished" if found["finished"] else "not finished: compared up to its newest commit"
    lines = [f"score of {found['run']} ({state})", ""]
    lines.append(
        tabulate(
            rows, headers=("", "predicted", "measured", "error", "range"), tablefmt="simple", disable_numparse=True
        )
    )
    lines += ["", *(f"note: {d}" for d in found["differences"])] if found["differences"] else []
    return "\n".join(lines)
