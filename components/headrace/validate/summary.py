"""The report in words: Markdown for people and tools, a short table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from headrace.artifacts import report_format as show
from headrace.artifacts.report_validation import summary

_MARKS = {"no-go": "NO-GO", "warn": "WARN", "info": "info"}


def facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of what matters most."""
    data, found, estimates = report["dataset"], report["facts"], report["estimates"]
    looked, plan = found["looked_at"], report["plan"] or {}
    heldout = report["heldout"] or {}
    name = ", ".join(str(data[k]) for k in ("name", "config") if data[k])
    rows = [
        ("dataset", f"{name}, split {data['split']}"),
        ("revision", data["revision"]),
        ("files", f"{show.count(data['files'])} with {show.count(data['row_groups'])} row groups"),
        ("rows", f"{show.count(data['rows'])}, {show.size(data['text_bytes'])} of text"),
        ("looked at", "every row" if looked["complete"] else f"{show.count(looked['rows'])} rows, a sample"),
        ("documents", _about(show.count(estimates["documents"]), estimates)),
        ("tokens", _about(show.count(estimates["tokens"]), estimates) + _interval(estimates)),
        ("tokens a byte", _mean(estimates, "tokens_per_byte")),
        ("tokens a document", _mean(estimates, "tokens_per_document")),
        ("document length", _spread(found["document_tokens"])),
        ("null, blank, copied", " / ".join(show.count(found[k]) for k in ("nulls", "blanks", "duplicates"))),
        ("damaged text", f"{show.count(found['damaged'])} rows"),
        ("held out", f"{show.count(heldout['documents'])} documents" if heldout else ""),
        (
            "blocks",
            f"{show.count(estimates['blocks'])} of {show.count(plan['block'])} tokens, "
            f"{show.count(estimates['steps_per_epoch'])} steps of {show.count(plan['global_batch'])} an epoch"
            if plan else "",
        ),
        ("lanes", show.count(plan.get("lanes"))),
        ("stream", _speed(report["measured"])),
        ("tokenizer", str(report["tokenizer"]["name"])),
    ]  # fmt: skip
    return [(k, v) for k, v in rows if v not in ("", show.DASH)]


def _speed(rates: Mapping[str, Any]) -> str:
    found = rates["rank_tokens_per_s"]
    return f"{show.short(found)} tokens/s a rank as measured here, limited by {rates['slower']}" if found else ""


def _about(text: str, estimates: Mapping[str, Any]) -> str:
    return text if estimates["exact"] else f"about {text}"


def _interval(estimates: Mapping[str, Any]) -> str:
    bounds = estimates["tokens_interval"]
    if estimates["exact"] or not bounds:
        return ""
    return f" (95 % interval {show.count(bounds[0])} – {show.count(bounds[1])})"


def _mean(estimates: Mapping[str, Any], name: str) -> str:
    value, bounds = show.significant(estimates[name]), estimates[f"{name}_interval"]
    if estimates["exact"] or not bounds:
        return value
    low, high = (show.significant(b) for b in bounds)
    return f"about {value} (95 % interval {low} – {high})"


def _spread(values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    return (
        f"median {show.count(values['p50'])} tokens, 95 % below {show.count(values['p95'])}, "
        f"most {show.count(values['max'])}"
    )


def terminal(report: Mapping[str, Any], paths: Sequence[tuple[str, str]]) -> str:
    """Verdict, facts, findings and paths for a terminal."""
    found = report["findings"]
    parts = [f"validate: {report['verdict'].upper()} ({summary(found)})", "", _table(facts(report))]
    if found:
        parts.append("")
    for finding in found:
        parts.append(f"{_MARKS[finding['severity']]}  {finding['code']}: {finding['message']}")
        if finding["consequence"] and finding["severity"] != "info":
            parts.append(f"      {finding['consequence']}")
        if finding["remedy"] and finding["severity"] != "info":
            parts.append(f"      {finding['remedy']}")
    return "\n".join([*parts, "", _table(paths)])


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return tabulate(rows, tablefmt="plain", disable_numparse=True)


def markdown(report: Mapping[str, Any], title: str) -> str:
    """`report.md`: the same, with remedies and evidence."""
    lines = [f"# {_escape(title)}", "", f"**{report['verdict']}**: {summary(report['findings'])}.", ""]
    lines += ["| | |", "|---|---|", *(f"| {_escape(k)} | {_escape(v)} |" for k, v in facts(report)), ""]
    lines.append("## Findings")
    lines.append("")
    for finding in report["findings"]:
        lines += [f"### {finding['severity']}: {finding['code']}", "", _escape(finding["message"]), ""]
        if finding["consequence"]:
            lines += [_escape(finding["consequence"]), ""]
        if finding["remedy"]:
            lines += [_escape(finding["remedy"]), ""]
        lines += [f"- {_escape(k)}: {_escape(v)}" for k, v in show.flat(finding["evidence"])]
        lines += [""] if finding["evidence"] else []
    if not report["findings"]:
        lines.append("None.")
    return "\n".join(lines).rstrip("\n") + "\n"


def _escape(text: str) -> str:
    """Plain text in Markdown: names of files and columns must not turn into markup or table cells."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
