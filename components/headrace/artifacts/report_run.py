"""What the page of a run shows, from what its steps left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from headrace.artifacts import report_charts as charts
from headrace.artifacts import report_format as show
from headrace.artifacts.report_compare import compared
from headrace.artifacts.report_scores import GATE_TONES, gate, parts, position_figure
from headrace.artifacts.report_validation import dataset_rows, findings, known, row, summary, tile

_LOG_ROWS = 40
_PACKAGES = "packages"
_MEASURES = (
    ("eval_loss", "Held-out loss, nats a token", 4, 1.0, ""),
    ("unigram_loss", "Unigram baseline, nats a token", 4, 1.0, ""),
    ("loss_over_unigram", "Loss over unigram baseline", 4, 1.0, ""),
    ("perplexity", "Perplexity", 2, 1.0, ""),
    ("accuracy", "Next-token accuracy", 2, 100.0, " %"),
    ("bits_per_byte", "Bits a byte", 4, 1.0, ""),
    ("tokens", "Tokens scored", 0, 1.0, ""),
    ("documents", "Documents scored", 0, 1.0, ""),
    ("bytes", "Bytes of text scored", 0, 1.0, ""),
    ("block", "Tokens in view", 0, 1.0, ""),
)
Values = Mapping[str, Any]


def page(
    title: str, training: Values, validation: Values, metrics: Values, lineage: Values, previous: Values
) -> dict[str, Any]:
    """The context of `run.html.j2`."""
    context: dict[str, Any] = {
        "title": title,
        "brand": "Headrace · run report",
        "footer": _footer(training),
        "lead": _lead(training, metrics),
        "tiles": _tiles(training, validation, metrics),
        "training": _training(training, metrics),
        "evaluation": _evaluation(metrics),
        "gate": gate(metrics),
        "compared": compared(previous, metrics, lineage),
        "samples": [_sample(s) for s in training.get("samples") or ()],
        "stream": _stream(training, validation),
        "validation": _validation(validation),
        "lineage": known(row(n, v, code=True) for n, v in show.flat(_shown_once(lineage))),
        _PACKAGES: [
            row(n, v, code=True) for n, v in show.flat(training.get(_PACKAGES) or lineage.get(_PACKAGES) or {})
        ],
    }
    names = {
        "training": "Training", "evaluation": "Evaluation", "gate": "Gate", "compared": "Beside the run before",
        "samples": "Generated text", "stream": "The stream", "validation": "Validation", "lineage": "Lineage",
    }  # fmt: skip
    context["sections"] = [(anchor, name) for anchor, name in names.items() if context[anchor]]
    return context


def _shown_once(lineage: Values) -> dict[str, Any]:
    """The lineage without the versions of packages and the gate's verdict, which have places of their own."""
    kept = {k: v for k, v in lineage.items() if k not in (_PACKAGES, "gate")}
    training = kept.get("training")
    if isinstance(training, Mapping):
        kept["training"] = {k: v for k, v in training.items() if k != _PACKAGES}
    return kept


def _footer(training: Values) -> str:
    version = training.get("version")
    return f"Written by Headrace {version}." if version else "Written by Headrace."


def _lead(training: Values, metrics: Values) -> list[tuple[str, bool]]:
    """The result in one sentence, as (text, emphasised) pieces."""
    loss, unigram = show.number(metrics.get("eval_loss")), show.number(metrics.get("unigram_loss"))
    parts: list[tuple[str, bool]] = []
    if loss is not None:
        parts += [("Held-out loss of ", False), (f"{loss:.3f} nats a token", True)]
        if unigram:
            parts += [(", ", False), (show.decimal(loss / unigram, 2), True), (" of the unigram baseline", False)]
    if training.get("steps"):
        steps, tokens = show.count(training["steps"]), show.short(training.get("tokens"))
        parts.append((", after " if parts else "Trained for ", False))
        parts.append((f"{steps} steps and {tokens} tokens", False))
    return [*parts, (".", False)] if parts else []


def _tiles(training: Values, validation: Values, metrics: Values) -> list[dict[str, Any]]:
    found = [*_score_tiles(metrics)]
    tokens, steps = training.get("tokens"), training.get("steps")
    found.append(tile("Tokens trained", show.headline(tokens), notes=[f"{show.count(steps)} steps" if steps else ""]))
    seconds, ranks = training.get("seconds"), training.get("world_size")
    pace = [show.duration(seconds) if seconds else "", _plural(ranks, "rank") if ranks else ""]
    found.append(
        tile(
            "Throughput", show.short(training.get("tokens_per_s")), unit="tokens/s",
            notes=[" on ".join(p for p in pace if p)],
        )
    )  # fmt: skip
    verdict = str(validation.get("verdict") or "")
    if verdict:
        found.append(
            tile(
                "Validation", verdict.capitalize(), tone=verdict,
                notes=[summary(validation.get("findings") or ())],
            )
        )  # fmt: skip
    said = metrics.get("gate") or {}
    if said.get("outcome") in GATE_TONES:
        reasons = [str(reason) for reason in said.get("reasons") or ()]
        note = reasons[0] if len(reasons) == 1 else f"{len(reasons)} reasons, below"
        found.append(tile("Gate", said["outcome"].capitalize(), tone=GATE_TONES[said["outcome"]], notes=[note]))
    return [t for t in found if t["value"] != show.DASH]


def _score_tiles(metrics: Values) -> Iterator[dict[str, Any]]:
    loss, unigram = show.number(metrics.get("eval_loss")), show.number(metrics.get("unigram_loss"))
    share = loss / unigram if loss is not None and unigram else None
    baseline = f"{show.percent(share, 0)} of the unigram baseline, {show.decimal(unigram)}" if share is not None else ""
    yield tile(
        "Held-out loss", show.decimal(loss), unit="nats a token",
        gauge=None if share is None else round(min(100.0, 100 * share), 1),
        notes=[baseline, _interval(metrics, "eval_loss", 3)],
    )  # fmt: skip
    perplexity = show.number(metrics.get("perplexity"))
    yield (
        tile("Perplexity", show.decimal(perplexity, 1), notes=[_interval(metrics, "perplexity", 1)])
        if perplexity is not None
        else tile("Perplexity", "too large" if metrics.get("perplexity_note") else show.DASH)
    )
    yield tile("Next-token accuracy", show.percent(metrics.get("accuracy")), notes=[
        _interval(metrics, "accuracy", 1, 100.0, " %")
    ])  # fmt: skip
    yield tile("Bits a byte", show.decimal(metrics.get("bits_per_byte")), notes=[
        _interval(metrics, "bits_per_byte", 3)
    ])  # fmt: skip


def _interval(metrics: Values, name: str, digits: int, scale: float = 1.0, unit: str = "") -> str:
    text = show.interval(metrics.get(f"{name}_interval"), digits, scale)
    return f"95 % interval {text}{unit}" if text else ""


def _plural(n: object, noun: str) -> str:
    return f"{show.count(n)} {noun}" + ("" if n == 1 else "s")


def _series(history: Sequence[Values], key: str) -> tuple[list[float], list[float]]:
    pairs = [(show.number(h.get("step")), show.number(h.get(key))) for h in history]
    known_pairs = [(x, y) for x, y in pairs if x is not None and y is not None]
    return [x for x, _ in known_pairs], [y for _, y in known_pairs]


def _training(training: Values, metrics: Values) -> dict[str, Any] | None:
    history = training.get("history") or ()
    log = _log(history)
    if not log["rows"]:
        return None
    # A short run logs a single step: numbers, and no line to draw.
    figures = [f for f in (_loss_figure(history, metrics), *_small_figures(history)) if f]
    return {"charts": _safe(figures), "log": log}


def _safe(figures: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Figures whose SVG, which is ours, goes into the page as it is."""
    from markupsafe import Markup

    return [{**figure, "svg": Markup(figure["svg"]), "narrow": Markup(figure["narrow"])} for figure in figures]


def _loss_figure(history: Sequence[Values], metrics: Values) -> dict[str, Any] | None:
    x, y = _series(history, "loss")
    if len(x) < 2:
        return None
    drawn = [charts.Line(x=x, y=y, paint="train")]
    key = [("train", "training loss, last", show.decimal(y[-1]))]
    ex, ey = _series(history, "eval_loss")
    loss, unigram = show.number(metrics.get("eval_loss")), show.number(metrics.get("unigram_loss"))
    if len(ex) > 1:
        drawn.append(charts.Line(x=ex, y=ey, paint="heldout"))
    if loss is not None:
        bounds = metrics.get("eval_loss_interval")
        band = (bounds[0], bounds[1]) if bounds and show.interval(bounds) else None
        if len(ex) > 1:
            drawn.append(charts.Line(x=[], y=[], paint="heldout", band=band))
        else:
            drawn.append(charts.Line(x=x, y=[loss], paint="heldout", level=True, band=band))
        key.append(("heldout", "held-out loss", show.decimal(loss)))
    elif len(ex) > 1:
        key.append(("heldout", "held-out loss, last", show.decimal(ey[-1])))
    if unigram is not None:
        drawn.append(charts.Line(x=x, y=[unigram], paint="baseline", level=True))
        key.append(("baseline", "unigram baseline", show.decimal(unigram)))
    said = "; ".join(f"{name} {value}" for _, name, value in key)
    text = f"Loss falls from {y[0]:.3f} at step {x[0]:g} to {y[-1]:.3f} at step {x[-1]:g}; {said}."
    text = text if y[-1] < y[0] else text.replace("falls", "goes")
    sizes = {"svg": ("loss", 960, 340), "narrow": ("loss-narrow", 380, 300)}
    svgs = {
        part: charts.lines(
            charts.Picture(name=name, title="Loss over steps", description=text, width=width, height=height),
            drawn, x_label="optimizer step", y_label="nats a token",
        )
        for part, (name, width, height) in sizes.items()
    }  # fmt: skip
    return {"title": "Loss over steps", "how": _thinning(len(x)), "key": key, **svgs}


def _thinning(points: int) -> str:
    _, _, n = charts.thinned(range(points), range(points))
    return f"Each point is the mean of {n} logged values." if n > 1 else ""


def _small_figures(history: Sequence[Values]) -> Iterator[dict[str, Any]]:
    wanted = (
        ("tokens_per_s", "throughput", "Throughput over steps", "tokens/s"),
        ("learning_rate", "learning-rate", "Learning rate over steps", "learning rate"),
    )
    for key, name, title, y_label in wanted:
        x, y = _series(history, key)
        if len(x) < 2:
            continue
        middle = sorted(y)[len(y) // 2]
        how = (
            f"median {show.short(middle)} tokens/s" if key == "tokens_per_s" else f"highest {show.significant(max(y))}"
        )
        text = f"From {show.significant(y[0])} at step {x[0]:g} to {show.significant(y[-1])} at step {x[-1]:g}; {how}."
        svg = charts.lines(
            charts.Picture(name=name, title=title, description=text),
            [charts.Line(x=x, y=y)], x_label="optimizer step", y_label=y_label, from_zero=True,
        )  # fmt: skip
        yield {"title": title, "how": how, "key": [], "svg": svg, "narrow": ""}


def _log(history: Sequence[Values]) -> dict[str, Any]:
    columns = [
        c for c in ("step", "loss", "eval_loss", "learning_rate", "tokens_per_s")
        if any(show.number(h.get(c)) is not None for h in history)
    ]  # fmt: skip
    rows = [h for h in history if any(show.number(h.get(c)) is not None for c in columns if c != "step")]
    every = -(-len(rows) // _LOG_ROWS) or 1
    kept = rows[::every]
    if rows and kept[-1] is not rows[-1]:
        kept = [*kept, rows[-1]]
    caption = f"Every {every}th of {len(rows)} log entries, and the last" if every > 1 else "Every log entry"
    form = {"step": show.count, "tokens_per_s": show.count, "learning_rate": show.significant}
    cells = [[form.get(c, lambda v: show.decimal(v, 4))(h.get(c)) for c in columns] for h in kept]
    return {"caption": caption, "columns": [show.label(c) for c in columns], "rows": cells}


def _evaluation(metrics: Values) -> dict[str, Any] | None:
    rows = [
        {
            "name": name,
            "value": show.DASH if show.number(metrics[key]) is None
            else show.decimal(float(metrics[key]) * scale, digits) + unit,
            "interval": _with_unit(show.interval(metrics.get(f"{key}_interval"), digits, scale), unit),
        }
        for key, name, digits, scale, unit in _MEASURES if key in metrics
    ]  # fmt: skip
    named = {m[0] for m in _MEASURES}
    rows += [
        {
            "name": show.label(k),
            "value": show.significant(v, 4),
            "interval": show.interval(metrics.get(f"{k}_interval")),
        }
        for k, v in metrics.items()
        if k not in named and show.number(v) is not None
    ]
    if not rows:
        return None
    notes = list(dict.fromkeys(v for k, v in metrics.items() if k.endswith("_note") and isinstance(v, str)))
    about = (
        "Scored on documents held out of training. The unigram baseline is the loss of guessing every token by its "
        "frequency in that slice alone: a model that learned context is well below it."
    )
    figures = [figure for figure in (position_figure(metrics),) if figure]
    return {"rows": rows, "notes": notes, "about": about, "parts": parts(metrics), "charts": _safe(figures)}


def _with_unit(text: str, unit: str) -> str:
    return text + unit if text else ""


def _sample(sample: Values) -> dict[str, Any]:
    prompt = str(sample.get("prompt") or "")
    sides = [
        (name, _continuation(prompt, str(sample[key])))
        for key, name in (("before", "Before training"), ("after", "After training"))
        if sample.get(key) is not None
    ]
    return {"prompt": prompt or "(no prompt)", "sides": sides}


def _continuation(prompt: str, text: str) -> dict[str, str]:
    """The part the model was given, where the text repeats it, and the part it wrote."""
    given = prompt if text.startswith(prompt) else ""
    return {"given": given, "rest": text.removeprefix(given)}


def _stream(training: Values, validation: Values) -> list[list[dict[str, Any]]]:
    data = training.get("dataset") or validation.get("dataset") or {}
    heldout = training.get("heldout") or validation.get("heldout") or {}
    accumulation = training.get("accumulation")
    batch = f"{_plural(training.get('world_size'), 'rank')} × {show.count(training.get('per_device_batch'))} samples"
    right = [
        row("Tokens a block", show.count(training.get("block"))),
        row("Lanes", show.count(training.get("lanes"))),
        row(
            "Global batch", show.count(training.get("global_batch")),
            note=f"{batch} × {show.count(accumulation)} micro-batches" if accumulation else "",
        ),
        row("Epochs", _epochs(training.get("stream") or {})),
        row("Rows dropped", _dropped(training.get("stream") or {})),
        row("Parameters", show.short(training.get("parameters"))),
        row("Held-out documents", show.count(heldout.get("documents"))),
        row("Held-out digest", heldout.get("digest"), code=True),
        row("Plan hash", training.get("plan_hash"), code=True),
    ]  # fmt: skip
    return [column for column in (known(dataset_rows(data)), known(right)) if column]


def _epochs(stream: Values) -> str:
    """The epochs that lanes stand in at the end, from 1."""
    low, high = stream.get("epochs") or (None, None)
    if low is None or high is None:
        return ""
    return show.count(low + 1) if low == high else f"{show.count(low + 1)} to {show.count(high + 1)}, by lane"


def _dropped(stream: Values) -> str:
    counts = stream.get("dropped") or {}
    return ", ".join(f"{show.count(n)} {why}" for why, n in sorted(counts.items()))


def _validation(validation: Values) -> dict[str, Any] | None:
    verdict = validation.get("verdict")
    if not verdict:
        return None
    found = validation.get("findings") or ()
    return {"verdict": str(verdict), "why": summary(found), "findings": findings(found)}
