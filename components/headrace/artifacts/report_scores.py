"""What the page of a run shows of its evaluation beside the totals: the gate, and scores of parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.artifacts import report_charts as charts
from headrace.artifacts import report_format as show
from headrace.artifacts.report_validation import known, row

Values = Mapping[str, Any]
GATE_TONES = {"passed": "go", "warned": "warn", "refused": "no-go"}
TITLE = "Loss by tokens in view"
_MOST_PARTS = 60


def gate(metrics: Values) -> dict[str, Any] | None:
    """What the gate was asked, what it said and why; None without a gate."""
    said = metrics.get("gate") or {}
    if not said.get("outcome"):
        return None
    compared = said.get("comparison") or {}
    facts = [
        row("Mode", said.get("mode")),
        row("Compared with", compared.get("version"), code=True),
        row(
            "Difference in loss", show.decimal(compared.get("difference"), 4),
            note="nats a token; below 0 this model is the better one",
        ),
        row("Its bounds", show.interval(compared.get("interval"), 4), note=_confidence(compared)),
        row("Largest allowed", show.significant(compared.get("max_regression"))),
    ]  # fmt: skip
    return {
        "outcome": str(said["outcome"]),
        "tone": GATE_TONES.get(said["outcome"], "info"),
        "reasons": [str(reason) for reason in said.get("reasons") or ()],
        "facts": known(facts),
    }


def _confidence(compared: Values) -> str:
    share = show.number(compared.get("confidence"))
    return f"each with {show.percent(share, 0)} confidence" if share is not None else ""


def parts(metrics: Values) -> list[dict[str, Any]]:
    """Tables of scores by source, where there are several, and by length of document."""
    found = []
    sources = list(metrics.get("by_source") or ())
    if len(sources) > 1:
        rows = [_part(str(part.get("source")), part) for part in sources[:_MOST_PARTS]]
        found.append({"caption": "By source", "first": "Source", "rows": rows})
    lengths = list(metrics.get("by_length") or ())
    if lengths:
        rows = [_part(_span(part.get("length")), part) for part in lengths]
        found.append({"caption": "By length of document", "first": "Tokens", "rows": rows})
    return found


def _part(name: str, part: Values) -> dict[str, str]:
    return {
        "name": name,
        "loss": show.decimal(part.get("eval_loss"), 3),
        "interval": show.interval(part.get("eval_loss_interval"), 3),
        "accuracy": show.percent(part.get("accuracy")),
        "documents": show.count(part.get("documents")),
        "tokens": show.short(part.get("tokens")),
    }


def _span(bounds: object) -> str:
    if not isinstance(bounds, Sequence) or len(bounds) != 2:
        return show.DASH
    low, high = bounds
    return f"{show.count(low)} or more" if high is None else f"{show.count(low)} to {show.count(high)}"


def position_figure(metrics: Values) -> dict[str, Any] | None:
    """The loss by how much of its document a token is predicted from."""
    points = [
        (show.number((stretch.get("context") or (None, None))[1]), show.number(stretch.get("eval_loss")))
        for stretch in metrics.get("by_position") or ()
    ]
    drawn = [(x, y) for x, y in points if x is not None and y is not None and x > 0]
    if len(drawn) < 2:
        return None
    x, y = [x for x, _ in drawn], [y for _, y in drawn]
    text = f"From {y[0]:.3f} with {x[0]:g} token in view to {y[-1]:.3f} with up to {x[-1]:g}."
    sizes = {"svg": ("by-position", 960, 300), "narrow": ("by-position-narrow", 380, 280)}
    svgs = {
        part: charts.lines(
            charts.Picture(name=name, title=TITLE, description=text, width=width, height=height),
            [charts.Line(x=x, y=y, paint="heldout")], x_label="tokens in view", y_label="nats a token", log=True,
        )
        for part, (name, width, height) in sizes.items()
    }  # fmt: skip
    how = "A model that uses its context predicts better the more of a document it has seen."
    return {"title": TITLE, "how": how, "key": [], **svgs}
