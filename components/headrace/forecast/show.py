"""The plan in words: a table for the terminal, Markdown for people and tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from headrace.artifacts import report_format as show

Rows = list[tuple[str, str]]
SHOWN_SIZES = 12


def sections(plan: Mapping[str, Any]) -> list[tuple[str, Rows]]:
    """Titles, each with names and values."""
    return [
        ("what", _what(plan)),
        ("data", _data(plan)),
        ("a step", _step(plan)),
        ("memory of a rank", _memory(plan)),
        ("time", _pace(plan)),
        ("checkpoints", _checkpoints(plan)),
    ]


def verdict(plan: Mapping[str, Any]) -> str:
    """One line: whether it fits, how long it takes, what it costs."""
    memory, pace = plan["memory"], plan["pace"]
    words = {"yes": "FITS", "maybe": "MAY FIT", "no": "DOES NOT FIT"}
    cost = f", {_span(pace['cost'], _money)}" if pace["cost"] else ""
    return (
        f"{words[memory['fits']]} on {plan['run']['ranks']} x {plan['hardware']['says']}: "
        f"{_span(pace['wall_s'], show.duration)}, {_span(pace['gpu_hours'], show.significant)} GPU-hours{cost}"
    )


def _what(plan: Mapping[str, Any]) -> Rows:
    model, report, hardware = plan["model"], plan["report"], plan["hardware"]
    return [
        ("model", f"{model['name']} ({model['model_type']}), {show.count(model['parameters'])} parameters"),
        ("dataset", f"{report['dataset']} ({report['verdict']} by {report['path']})"),
        ("hardware", f"{plan['run']['ranks']} x {hardware['says']}"),
        ("precision", f"{plan['run']['precision']}; optimizer {plan['run']['optimizer']}"),
    ]


def _data(plan: Mapping[str, Any]) -> Rows:
    data = plan["data"]
    bounds = data["interval"]
    about = "" if plan["report"]["exact"] else "about "
    interval = f" (95 % interval {_span(bounds, show.short)})" if bounds and bounds[0] != bounds[1] else ""
    return [
        ("tokens available", f"{about}{show.count(data['available'])}{interval}"),
        ("tokens wanted", f"{show.count(data['wanted'])}, {show.significant(data['epochs'])} epochs"),
        ("tokens a parameter", show.significant(data["wanted"] / plan["model"]["parameters"])),
        ("steps", f"{show.count(data['steps'])} of {show.count(data['tokens_per_step'])} tokens"),
        ("read requests", f"{_span(data['read_requests'], show.short)} over HTTP"),
    ]


def _step(plan: Mapping[str, Any]) -> Rows:
    run = plan["run"]
    sizes = run["exact_world_sizes"]
    more = f" and {len(sizes) - SHOWN_SIZES} more" if len(sizes) > SHOWN_SIZES else ""
    rows = [
        ("global batch", f"{show.count(run['global_batch'])} blocks of {show.count(plan['model']['block'])} tokens"),
        ("lanes", f"{run['lanes']} (from {run['lanes_from']})"),
        ("planned for", _division(run)),
        ("recommended", _division(run["recommended"]) if run["recommended"] else "none fits for certain"),
        ("GPUs without filler", ", ".join(map(str, sizes[:SHOWN_SIZES])) + more),
    ]
    return [r for r in rows if r != ("recommended", _division(run))]


def _division(parts: Mapping[str, Any]) -> str:
    filler = "" if parts["efficiency"] == 1 else f", {show.percent(1 - parts['efficiency'])} filler"
    return (
        f"--per_device_train_batch_size {parts['micro_batch']} --gradient_accumulation_steps {parts['accumulation']}"
        f" on {parts['ranks']}{filler}"
    )


def _memory(plan: Mapping[str, Any]) -> Rows:
    memory = plan["memory"]
    rows = [
        ("weights", show.size(memory["weights"])),
        ("gradients", show.size(memory["gradients"])),
        ("optimizer", show.size(memory["optimizer"])),
        ("autocast copies", show.size(memory["cast_weights"])),
        ("gradient buckets", show.size(memory["buckets"])),
        ("activations", _span(memory["activations"], show.size)),
        ("logits", _span(memory["logits"], show.size)),
        ("the process", _span(memory["process"], show.size)),
        ("peak", f"{_span(memory['peak'], show.size)} of {show.size(memory['available'])}: {memory['fits']}"),
    ]
    return [r for r in rows if r[1] != "0 bytes"]


def _pace(plan: Mapping[str, Any]) -> Rows:
    pace = plan["pace"]
    rows = [
        ("step", _span(pace["step_s"], lambda s: f"{show.significant(s)} s")),
        ("tokens a second", _span(pace["tokens_per_s"], show.short)),
        ("wall time", _span(pace["wall_s"], show.duration)),
        ("GPU-hours", _span(pace["gpu_hours"], show.significant)),
        ("cost", _span(pace["cost"], _money) if pace["cost"] else ""),
        ("needed of a rank's stream", f"{_span(pace['needed_per_rank'], show.short)} tokens/s"),
        ("bottleneck", pace["bottleneck"]),
    ]
    return [r for r in rows if r[1]]


def _checkpoints(plan: Mapping[str, Any]) -> Rows:
    saved = plan["checkpoints"]
    by_time = "" if not saved["by_time"][1] else f", and {_span(saved['by_time'], show.count)} by time"
    return [
        ("checkpoint", f"{show.size(saved['checkpoint_bytes'])} in {saved['files']} files"),
        ("commits", f"{show.count(saved['scheduled'])} by steps{by_time}"),
        ("on disk at the end", f"{show.size(saved['disk_bytes'])} ({saved['kept']} checkpoints, the final model)"),
        ("written in all", _span(saved["written_bytes"], show.size)),
        ("requests to a store", _span(saved["store_requests"], show.short)),
    ]


def _money(value: object) -> str:
    return show.decimal(value, 2)


def _span(bounds: Sequence[float], form: Callable[[object], str]) -> str:
    low, high = (form(b) for b in bounds)
    return low if low == high else f"{low} – {high}"


def terminal(plan: Mapping[str, Any], paths: Sequence[str]) -> str:
    """The plan for a terminal."""
    lines = [f"plan: {verdict(plan)}"]
    for title, rows in sections(plan):
        lines += ["", f"{title}:", tabulate(rows, tablefmt="plain", disable_numparse=True)]
    lines += ["", *(f"note: {note}" for note in plan["notes"])] if plan["notes"] else []
    return "\n".join([*lines, "", *paths])


def markdown(plan: Mapping[str, Any]) -> str:
    """`plan.md`."""
    lines = ["# Plan", "", f"**{verdict(plan)}**", ""]
    for title, rows in sections(plan):
        lines += [f"## {title.capitalize()}", "", "| | |", "|---|---|"]
        lines += [f"| {_plain(name)} | {_plain(value)} |" for name, value in rows]
        lines.append("")
    lines += [f"- {note}" for note in plan["notes"]]
    return "\n".join(lines).rstrip("\n") + "\n"


def _plain(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "\\<").split())
