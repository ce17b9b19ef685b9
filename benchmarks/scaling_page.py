"""Tables and pictures of the page on scale, from the figures of `scaling.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.scaling_ranks import BIN_S, NODE_RANKS
from benchmarks.scaling_source import BUCKET_ASKS, BUCKET_READS_PER_S, HUB_RESOLVES, HUB_WINDOW_S

Figures = dict[str, Any]


def _table(head: list[str], rows: list[list[Any]]) -> str:
    return str(tabulate(rows, head, tablefmt="github", disable_numparse=True)) + "\n"


def _size(n: float) -> str:
    """Bytes in a unit that leaves one to three digits before the point."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1_000:
            return f"{n:.3g} {unit}"
        n /= 1_000
    return f"{n:.3g} TB"


def _time(s: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if s >= 1.5 * length:
            return f"{s / length:.1f} {unit}"
    return f"{s:.2g} s" if s < 10 else f"{s:.0f} s"


def _few(x: float) -> str:
    return f"{x:.2g}" if x < 10 else f"{x:,.0f}"


def steady(found: Figures, case: str) -> str:
    """Requests and bytes over a segment."""
    rate = found["assumed"]["tokens_per_s"] / 1e3
    rows = [
        [
            load["world_size"], load["lanes"], _few(load["world_size"] * rate) + " k", _few(load["requests_per_s"]),
            f"{load['footer_requests'] / (load['text_requests'] + load['footer_requests']):.0%}",
            _size(load["bytes_per_s"]) + "/s", f"{load['amplification']:.2f}",
            load["most_open"], _size(load["held_bytes"]),
            f"{load['requests_per_s'] * HUB_WINDOW_S:,.0f}",
        ]
        for load in found[case]
    ]  # fmt: skip
    head = [
        "ranks", "lanes a rank", "tokens/s", "requests/s", "of them footers", "bytes/s", "fetched ÷ used",
        "files open a rank", "text held a rank", "requests in 5 min",
    ]  # fmt: skip
    return _table(head, rows)


def _start(load: Figures) -> list[Any]:
    requests, size = load["start_requests"], load["start_bytes"]
    # What fits into a window is answered at once; the rest waits for as many windows as it needs.
    windows = [-(-requests // HUB_RESOLVES[plan]) - 1 for plan in ("free account", "Enterprise")]
    waits = [_time(n * HUB_WINDOW_S) if n else "none" for n in windows]
    each = load["world_size"]
    bucket = (requests + BUCKET_ASKS * load["start_opens"]) / BUCKET_READS_PER_S
    return [f"{requests / each:,.0f}", f"{requests:,.0f}", _size(size), *waits, _time(bucket)]


def begin(found: Figures) -> str:
    """What is asked at once at the start, and in going on."""
    cases = (("known", "with row groups"), ("listed", "a listing"), ("large", "with row groups, one a file"))
    rows = [
        [load["world_size"], name, *_start(load), f"{load['resume_requests']:,}"]
        for case, name in cases
        for load in found[case]
    ]
    head = [
        "ranks", "manifest", "requests a rank", "of all", "bytes", "Hub wait, free", "Enterprise",
        "bucket, 5,000/s", "requests in going on",
    ]  # fmt: skip
    return _table(head, rows)


def bursts(found: Figures) -> str:
    """The most at once after the start, against the mean."""
    rows = [
        [load["world_size"], name, _few(load["requests_per_s"]), _few(load["peak"] * load["requests_per_s"])]
        for case, name in (("known", "with row groups"), ("listed", "a listing"))
        for load in found[case]
    ]
    return _table(["ranks", "manifest", "mean requests/s", f"most in {BIN_S:.0f} s, requests/s"], rows)


def filler(found: Figures) -> str:
    """Filler by world size."""
    rows = [
        [row["world_size"], "none" if row["exact"] else f"{row['filler'][0]:.1%}", f"{row['filler'][1]:.1%}"]
        for row in found["filler"]
    ]
    return _table(["ranks", "filler, micro-batch 1", "micro-batch 2"], rows)


def manifests(found: Figures) -> str:
    """Manifests as they are kept and sent."""
    rows = [
        [
            f"{m['files']:,}", f"{m['row_groups']:,}", "yes" if m["known"] else "no", _size(m["bytes"]),
            _time(m["write_s"]), _time(m["read_s"]), _size(m["sent_bytes"]), _time(m["send_s"]),
        ]
        for m in found["manifests"]
    ]  # fmt: skip
    head = ["files", "row groups", "written with them", "JSON", "write", "read", "sent to a rank", "pack and unpack"]
    return _table(head, rows)


def commits(found: Figures) -> str:
    """Commits by model and world size."""
    rows = [
        [
            c["model"], c["world_size"], f"{c['objects']:,}", _size(c["bytes"]), f"{c['writes']:,}", f"{c['reads']:,}",
            f"{c['deletes']:,}", _time(c["seconds"]), f"{c['per_hour']:,.0f}",
        ]
        for c in found["commits"]
    ]  # fmt: skip
    head = ["model", "ranks", "objects", "bytes", "writes", "reads", "deletes", "commit takes", "requests an hour"]
    return _table(head, rows)


def ledgers(found: Figures) -> str:
    """Ledgers that a commit reads."""
    rows = [
        [m["world_size"], f"{m['steps']:,}", f"{m['files']:,}", _size(m["bytes"]), _time(m["seconds"])]
        for m in found["ledgers"]
    ]
    return _table(["ranks", "steps", "files", "bytes", "all ranks wait"], rows)


def resumed(found: Figures) -> str:
    """Ranks that went on, measured."""
    rows = [
        [
            r["world_size"], "with row groups" if r["known"] else "a listing", ", ".join(map(str, r["ranks"])),
            _time(r["seconds"]), f"{r['requests']:,.0f}", _size(r["bytes"]), _size(r["bytes"] * r["world_size"]),
        ]
        for r in found["resumed"]
    ]  # fmt: skip
    head = ["ranks", "manifest", "measured", "to the first step", "requests by then", "bytes by then", "× all ranks"]
    return _table(head, rows)


TABLES: dict[str, Callable[[Figures], str]] = {
    "steady_known": lambda found: steady(found, "known"),
    "steady_listed": lambda found: steady(found, "listed"),
    "steady_large": lambda found: steady(found, "large"),
    "begin": begin,
    "bursts": bursts,
    "filler": filler,
    "manifests": manifests,
    "commits": commits,
    "ledgers": ledgers,
    "resumed": resumed,
}


def draw(found: Figures, folder: Path) -> None:
    """Requests at the start and bytes fetched for each byte used, by world size."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "headrace", "font.size": 9})
    import matplotlib.pyplot as plt

    sizes = [load["world_size"] for load in found["known"]]
    colours = {"known": ("#1f6feb", "manifest with row groups"), "listed": ("#d1242f", "manifest is a listing")}
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.4))
    for case, (colour, name) in colours.items():
        loads = found[case]
        left.plot(sizes, [x["start_requests"] for x in loads], "o-", color=colour, label=name)
        right.plot(sizes, [x["amplification"] for x in loads], "o-", color=colour, label=name)
    for plan, limit in HUB_RESOLVES.items():
        left.axhline(limit, color="#9aa0a6", linewidth=0.8, linestyle="--")
        left.text(sizes[0], limit * 1.05, f"5 min of Hub, {plan}", color="#57606a", fontsize=7)
    left.set_yscale("log")
    left.set_ylabel("requests at the start, all ranks")
    right.set_ylabel("bytes fetched for each byte trained")
    right.set_ylim(bottom=0)
    right.legend(frameon=False)
    _save(figure, (left, right), sizes, folder / "scaling.svg")

    figure, axes = plt.subplots(figsize=(8.5, 2.8))
    load = found["known"][-1]
    axes.fill_between(
        [BIN_S * i / 60 for i in range(61)], load["timeline"][:61], step="post", color="#1f6feb", linewidth=0
    )
    axes.set_yscale("symlog", linthresh=1)
    axes.set_xlabel("minutes of training")
    axes.set_ylabel(f"requests a second, {load['world_size']} ranks")
    _save(figure, (axes,), None, folder / "scaling-bursts.svg")


def _save(figure: Any, panels: tuple[Any, ...], sizes: list[int] | None, file: Path) -> None:
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        if sizes is not None:
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
            axes.set_xlabel(f"ranks ({NODE_RANKS} a node)")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
