"""Charts as inline SVG: small, deterministic, drawn in the page's own colours so that light and dark both read well."""

from __future__ import annotations

import html
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace.artifacts.report_format import percent, short

# matplotlib wants real colours; each of these stands for a CSS variable of the page and is swapped for it afterwards.
_STAND_IN = {
    "train": "#0101f1",
    "heldout": "#0101f2",
    "baseline": "#0101f3",
    "muted": "#0101f4",
    "rule": "#0101f5",
}
_FONT_SIZE = 12
_MOST_POINTS = 400
_DASHES = {"train": "-", "heldout": "--", "baseline": ":"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line. paint: train, heldout or baseline, which also sets how it is dashed."""

    x: Sequence[float]
    y: Sequence[float]
    paint: str = "train"
    band: tuple[float, float] | None = None
    """Lowest and highest value of a shaded interval over the whole width."""
    level: bool = False
    """Drawn at y[0] from edge to edge."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What a reader who cannot see the chart is told of it, and its size in CSS pixels."""

    name: str
    title: str
    description: str
    width: int = 440
    height: int = 230


def thinned(x: Sequence[float], y: Sequence[float], most: int = _MOST_POINTS) -> tuple[list[float], list[float], int]:
    """At most about `most` points, each the mean of n neighbours, and n."""
    n = -(-len(x) // most) or 1
    starts = range(0, len(x), n)
    return (
        [sum(x[i : i + n]) / len(x[i : i + n]) for i in starts],
        [sum(y[i : i + n]) / len(y[i : i + n]) for i in starts],
        n,
    )


def lines(
    picture: Picture, drawn: Sequence[Line], *, x_label: str, y_label: str, from_zero: bool = False, log: bool = False
) -> str:
    """An SVG element with these lines over one pair of axes; log: the horizontal one is logarithmic."""

    def draw(axes: Any) -> None:
        if log:
            axes.set_xscale("log")
        for line in drawn:
            colour, dash = _STAND_IN[line.paint], _DASHES[line.paint]
            if line.band is not None:
                axes.axhspan(*line.band, color=colour, alpha=0.13, linewidth=0)
            if line.level:
                axes.axhline(line.y[0], color=colour, linestyle=dash, linewidth=1.6)
                continue
            x, y, _ = thinned(line.x, line.y)
            few = {"marker": "o", "markersize": 3.5} if len(x) <= 12 else {}
            axes.plot(x, y, color=colour, linestyle=dash, linewidth=1.9, **few)
        if from_zero:
            axes.set_ylim(bottom=0)

    return _svg(picture, draw, x_label, y_label)


def histogram(
    picture: Picture, edges: Sequence[float], counts: Sequence[float], *, x_label: str, y_label: str, log: bool = False
) -> str:
    """An SVG element with one bar a bin; log: the bins are of equal width on a logarithmic scale."""

    def draw(axes: Any) -> None:
        if log:
            axes.set_xscale("log")
        widths = [high - low for low, high in itertools.pairwise(edges)]
        axes.bar(
            edges[:-1], counts, width=widths, align="edge",
            color=_STAND_IN["train"], alpha=0.75, edgecolor=_STAND_IN["train"], linewidth=0.6,
        )  # fmt: skip
        axes.set_xlim(edges[0], edges[-1])

    return _svg(picture, draw, x_label, y_label)


def bars(picture: Picture, names: Sequence[str], shares: Sequence[float]) -> str:
    """An SVG element with one horizontal bar a name, the first at the top; shares from 0 to 1, written beside it."""

    def draw(axes: Any) -> None:
        places = range(len(names))
        axes.barh(
            places, shares, height=0.62,
            color=_STAND_IN["train"], alpha=0.75, edgecolor=_STAND_IN["train"], linewidth=0.6,
        )  # fmt: skip
        for place, share in zip(places, shares, strict=True):
            axes.text(share, place, f" {percent(share)}", va="center", ha="left", color=_STAND_IN["muted"])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(visible=False)
        axes.set_xlim(0, max(shares) * 1.25)
        axes.set_xticks([])
        axes.set_yticks(list(places), [n.replace("$", r"\$") for n in names])

    return _svg(picture, draw, "", "", ticks=False)


def _svg(picture: Picture, draw: Any, x_label: str, y_label: str, *, ticks: bool = True) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not restyle the report
        matplotlib.rcParams.update(
            {
                "svg.fonttype": "none",  # text stays text: the page's font, and a screen reader can find it
                "svg.hashsalt": "headrace",
                "font.size": _FONT_SIZE,
                "axes.unicode_minus": True,
                "axes.formatter.useoffset": False,
            }
        )
        figure = Figure(figsize=(picture.width / 72, picture.height / 72), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        _dress(axes, x_label, y_label)
        draw(axes)
        if ticks:
            _ticks(axes)
        out = io.StringIO()
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(out, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inlined(out.getvalue(), picture)


def _dress(axes: Any, x_label: str, y_label: str) -> None:
    axes.patch.set_visible(False)
    muted, rule = _STAND_IN["muted"], _STAND_IN["rule"]
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(rule)
    axes.tick_params(colors=muted, length=0, pad=5)
    axes.grid(axis="y", color=rule, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(x_label, color=muted)
    axes.set_ylabel(y_label, color=muted)


def _ticks(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    def formatter(limits: tuple[float, float]) -> Any:
        large = max(map(abs, limits)) >= 1e4

        def text(value: float, _position: int) -> str:
            if large:
                return short(value)
            return f"{value:,g}" if abs(value) >= 1e-2 or value == 0 else f"{value:.1e}".replace("e-0", "e-")

        return FuncFormatter(text)

    axes.xaxis.set_major_formatter(formatter(axes.get_xlim()))
    axes.yaxis.set_major_formatter(formatter(axes.get_ylim()))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    if axes.get_xscale() == "log":
        axes.xaxis.set_major_locator(LogLocator(numticks=7))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def _inlined(document: str, picture: Picture) -> str:
    """An SVG file by matplotlib as an element of an HTML page: no prologue, ids of its own, colours of the page."""
    body = document[document.index("<svg") :]
    body = body[body.index(">") + 1 : body.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]*(;\s*)?", "", body)
    referenced = set(re.findall(r"(?:url\(#|href=\"#)([\w.-]+)", body))
    body = re.sub(r" id=\"([\w.-]+)\"", lambda m: f' id="{picture.name}-{m[1]}"' if m[1] in referenced else "", body)
    body = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{picture.name}-", body)
    for role, colour in _STAND_IN.items():
        body = body.replace(colour, f"var(--{role})")
    body = re.sub(r"\s*\n\s*", " ", body)
    name = picture.name
    return (
        f'<svg viewBox="0 0 {picture.width} {picture.height}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{html.escape(picture.title)}</title>'
        f'<desc id="{name}-desc">{html.escape(picture.description)}</desc>{body}</svg>'
    )
