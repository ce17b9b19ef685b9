"""What the page of a validation shows, from validate's `report.json`; also findings for the page of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from headrace.artifacts import report_charts as charts
from headrace.artifacts import report_format as show

LABELS = {"go": "Go", "warn": "Go, with warnings", "no-go": "No-go"}
_PLURALS = {"no-go": ("no-go finding", "no-go findings"), "warn": ("warning", "warnings"), "info": ("note", "notes")}


def row(name: str, value: object, *, code: bool = False, note: str = "") -> dict[str, Any]:
    """One row of a table of facts; code: shown in the typewriter face, for hashes and paths."""
    return {"name": name, "value": value, "code": code, "note": note}


def known(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that say something."""
    return [r for r in rows if r["value"] not in (None, "", show.DASH)]


def tile(
    label: str, value: str, *, unit: str = "", notes: Sequence[str] = (), gauge: float | None = None, tone: str = ""
) -> dict[str, Any]:
    """One headline number. gauge: filled percentage of a bar below it."""
    return {
        "label": label, "value": value, "unit": unit, "notes": [n for n in notes if n], "gauge": gauge, "tone": tone,
    }  # fmt: skip


def page(title: str, validation: Mapping[str, Any]) -> dict[str, Any]:
    """The context of `validation.html.j2`."""
    from markupsafe import Markup

    word = str(validation.get("verdict", ""))
    figures = [{**f, "svg": Markup(f["svg"])} for f in _figures(validation.get("histograms") or {})]
    columns = [{**f, "svg": Markup(f["svg"])} for f in _column_figures(validation.get("columns") or {})]
    sections = [("findings", "Findings"), ("facts", "Facts")]
    if columns:
        sections.insert(1, ("columns", "Other columns"))
    if figures:
        sections.insert(1, ("documents", "Documents"))
    return {
        "title": title,
        "brand": "Headrace · validation",
        "footer": "Written by headrace validate. Everything on this page is in report.json beside it.",
        "sections": sections,
        "verdict": {"word": word, "label": LABELS.get(word, word), "why": summary(validation.get("findings") or ())},
        "tiles": _tiles(validation),
        "findings": findings(validation.get("findings") or ()),
        "charts": figures,
        "columns": columns,
        "facts": _facts(validation),
    }


def summary(found: Sequence[Mapping[str, Any]]) -> str:
    """How many findings of each severity there are, in words."""
    parts = []
    for severity, (one, many) in _PLURALS.items():
        n = sum(f.get("severity") == severity for f in found)
        if n:
            parts.append(f"{n} {one if n == 1 else many}")
    return ", ".join(parts) or "nothing found"


def findings(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Findings as the templates show them, the gravest first."""
    grave = list(_PLURALS)
    ordered = sorted(found, key=lambda f: grave.index(f["severity"]) if f.get("severity") in grave else len(grave))
    return [
        {
            "code": str(f.get("code", "")),
            "severity": str(f.get("severity", "info")),
            "message": str(f.get("message", "")),
            "consequence": str(f.get("consequence") or ""),
            "remedy": str(f.get("remedy") or ""),
            "evidence": [row(name, value, code=True) for name, value in _evidence(f.get("evidence"))],
        }
        for f in ordered
    ]


def _evidence(value: object) -> list[tuple[str, str]]:
    if not value:
        return []
    return list(show.flat(value)) if isinstance(value, Mapping) else [("", show.plain(value))]


def _tiles(validation: Mapping[str, Any]) -> list[dict[str, Any]]:
    data, facts = validation.get("dataset") or {}, validation.get("facts") or {}
    estimates, looked = validation.get("estimates") or {}, (validation.get("facts") or {}).get("looked_at") or {}
    how = "every row read" if looked.get("complete") else f"from {show.count(looked.get('rows'))} rows"
    found = [
        tile(
            "Tokens", show.headline(estimates.get("tokens")),
            notes=[_range(estimates.get("tokens_interval")), how if looked else ""],
        ),
        tile(
            "Documents", show.headline(estimates.get("documents")), notes=[f"of {show.count(data.get('rows'))} rows"]
        ),
        tile(
            "Tokens a byte", show.significant(estimates.get("tokens_per_byte")),
            notes=[
                _range(estimates.get("tokens_per_byte_interval"), show.significant),
                _bytes_per_token(estimates.get("tokens_per_byte")),
            ],
        ),
        tile(
            "Blocks", show.headline(estimates.get("blocks")),
            notes=[f"of {show.count(estimates.get('block'))} tokens" if estimates.get("block") else ""],
        ),
        tile("Text", show.size(data.get("text_bytes")), notes=[_files(data)]),
        tile("Unusable or copied", show.percent(facts.get("wasted_share")), notes=["null, blank or exact copies"]),
    ]  # fmt: skip
    return [t for t in found if t["value"] != show.DASH]


def _range(bounds: object, said: Callable[[object], str] = show.short) -> str:
    if not isinstance(bounds, list | tuple) or len(bounds) != 2 or bounds[0] == bounds[1]:
        return ""
    return f"95 % interval {said(bounds[0])} – {said(bounds[1])}"


def _bytes_per_token(tokens_per_byte: object) -> str:
    n = show.number(tokens_per_byte)
    return f"{show.significant(1 / n)} bytes a token" if n else ""


def _files(data: Mapping[str, Any]) -> str:
    files, groups = data.get("files"), data.get("row_groups")
    return f"{show.count(files)} files, {show.count(groups)} row groups" if files is not None else ""


def _figures(histograms: Mapping[str, Any]) -> list[dict[str, Any]]:
    wanted = (
        ("document_tokens", "Document length", "tokens a document", True),
        ("tokens_per_byte", "Tokens a byte", "tokens a byte, by document", False),
    )
    found = []
    for name, title, x_label, log in wanted:
        histogram = histograms.get(name) or {}
        edges, counts = histogram.get("edges") or [], histogram.get("counts") or []
        if len(edges) < 2 or len(counts) != len(edges) - 1 or not sum(counts):
            continue
        middle = show.significant(histogram.get("median"))
        low, high = show.significant(edges[0]), show.significant(edges[-1])
        text = f"{show.count(sum(counts))} documents from {low} to {high} {x_label}; half have {middle} or less."
        picture = charts.Picture(name=name.replace("_", "-"), title=title, description=text)
        svg = charts.histogram(picture, edges, counts, x_label=x_label, y_label="documents", log=log)
        found.append({"title": title, "how": f"median {middle}", "key": [], "svg": svg, "narrow": ""})
    return found


def _column_figures(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A chart a column: shares of a category's commonest values, or a histogram of numbers."""
    found = []
    for number, (name, column) in enumerate(columns.items()):
        nulls = f"; {show.count(column['nulls'])} of {show.count(column['rows'])} rows are null"
        nulls = nulls if column["nulls"] else ""
        if column["kind"] == "category":
            how, svg = f"{_values(column)}{nulls}", _bars(f"column-{number}", name, column)
        else:
            how = f"median {show.significant(column['p50'])}{nulls}"
            text = (
                f"From {show.significant(column['least'])} to {show.significant(column['most'])}; nine of ten between "
                f"{show.significant(column['p5'])} and {show.significant(column['p95'])}; {how}."
            )
            picture = charts.Picture(name=f"column-{number}", title=name, description=text)
            svg = charts.histogram(picture, column["edges"], column["counts"], x_label=name, y_label="rows")
        found.append({"title": name, "how": how, "key": [], "svg": svg, "narrow": ""})
    return found


def _values(column: Mapping[str, Any]) -> str:
    n, hidden = column["different"], column.get("hidden", 0)
    text = f"{show.count(n)} values" if n > 1 else "one value"
    return f"{text}, {'' if hidden == n else f'{show.count(hidden)} of them '}not shown" if hidden else text


def _bars(ident: str, name: str, column: Mapping[str, Any]) -> str:
    """A bar a value that is shown; empty without any."""
    total = sum(n for _, n in column["values"]) + column["other"]
    shares = [(str(value) or "(empty)", n / total) for value, n in column["values"]]
    if not shares:
        return ""
    text = ", ".join(f"{value}: {show.percent(share)}" for value, share in shares)
    picture = charts.Picture(name=ident, title=name, description=text, height=30 + 26 * len(shares))
    return charts.bars(picture, [v for v, _ in shares], [s for _, s in shares])


def _facts(validation: Mapping[str, Any]) -> list[dict[str, Any]]:
    data, facts = validation.get("dataset") or {}, validation.get("facts") or {}
    looked, estimates = facts.get("looked_at") or {}, validation.get("estimates") or {}
    tokenizer, plan = validation.get("tokenizer") or {}, validation.get("plan") or {}
    heldout = validation.get("heldout") or {}
    left = [
        *dataset_rows(data),
        row("Held-out documents", show.count(heldout.get("documents"))),
        row("Held-out digest", heldout.get("digest"), code=True),
    ]
    right = [
        row("Rows looked at", show.count(looked.get("rows")), note="all of them" if looked.get("complete") else ""),
        row("Text looked at", show.size(looked.get("bytes"))),
        row("Null rows", show.count(facts.get("nulls"))),
        row("Blank rows", show.count(facts.get("blanks"))),
        row("Exact copies", show.count(facts.get("duplicates"))),
        row("Damaged text", show.count(facts.get("damaged")), note="control or replacement characters, mojibake"),
        row("Signs of personal data, secrets", show.plain(facts.get("private") or None), note="matches, by kind"),
        row("Tokenizer", tokenizer.get("name")),
        row("Unknown tokens", show.count(facts.get("unknown_tokens"))),
        row("Vocabulary used", _of(facts.get("vocabulary_used"), tokenizer.get("size"))),
        row(
            "Tokens a document",
            show.significant(estimates.get("tokens_per_document")),
            note=_range(estimates.get("tokens_per_document_interval"), show.significant),
        ),
        row("Longest document", f"{show.count(facts.get('longest_tokens'))} tokens" if facts.get("tokens") else ""),
        row("Tokens a block", show.count(plan.get("block"))),
        row("Lanes", show.count(plan.get("lanes"))),
        row("Global batch", show.count(plan.get("global_batch"))),
        row("Steps an epoch", show.count(estimates.get("steps_per_epoch"))),
    ]
    columns = [
        ("The dataset", known(left)),
        ("Reading and speed", known(_reading(validation))),
        ("What was found", known(right)),
    ]
    return [{"caption": caption, "rows": rows} for caption, rows in columns if rows]


def _of(n: object, whole: object) -> str:
    return show.DASH if show.number(n) is None else f"{show.count(n)} of {show.count(whole)}"


def _reading(validation: Mapping[str, Any]) -> list[dict[str, Any]]:
    reading, rates = validation.get("reading") or {}, validation.get("measured") or {}
    overlap = (validation.get("facts") or {}).get("overlap") or {}
    spilled = reading.get("spilled_bytes")
    return [
        row("Reads, one thread", _rate(rates.get("read_tokens_per_s"), "tokens/s")),
        row("Encodes, one core", _rate(rates.get("encoded_tokens_per_s"), "tokens/s"), note=str(rates.get("encoder"))),
        row("A rank gets", _rate(rates.get("rank_tokens_per_s"), "tokens/s"), note=f"limited by {rates.get('slower')}"),
        row("Lanes a rank", show.count(reading.get("lanes_per_rank"))),
        row("Memory of the stream, a rank", show.size(reading.get("memory_bytes")), note="at most"),
        row("Fetched for a byte of text", show.significant(reading.get("fetched_per_text_byte")), note="bytes at most"),
        row("Written to scratch", show.size(spilled) if spilled else "", note="of the first segment"),
        row("Held-out text seen in training", show.percent(overlap.get("mean")), note="mean share of 13-grams"),
    ]


def _rate(value: object, unit: str) -> str:
    return show.DASH if show.number(value) is None else f"{show.short(value)} {unit}"


def dataset_rows(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows that say which dataset it is and how large."""
    name = " · ".join(str(data[k]) for k in ("name", "config") if data.get(k))
    return [
        row("Dataset", name),
        row("Split", data.get("split")),
        row("Revision", data.get("revision"), code=True),
        row("Text column", data.get("text_column"), code=True),
        row("Files", show.count(data.get("files"))),
        row("Row groups", show.count(data.get("row_groups"))),
        row("Rows", show.count(data.get("rows"))),
        row("Text", show.size(data.get("text_bytes"))),
        row("Manifest hash", data.get("manifest_hash"), code=True),
    ]
