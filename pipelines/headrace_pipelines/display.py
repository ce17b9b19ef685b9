"""What a person sees of a run on a back end: a live table in a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from headrace_pipelines.steps import Step

COLORS = {"SUCCEEDED": "green", "FAILED": "red", "RUNNING": "cyan", "CANCELED": "yellow", "CANCELING": "yellow"}


class Display(Protocol):
    """Is told of each look at a run."""

    def look(self, name: str, state: str, shown: Sequence[Step], facts: Sequence[tuple[str, str]]) -> None:
        """Show a state. facts: further values by name."""

    def note(self, text: str) -> None:
        """Say something beside the states."""


class Lines:
    """A line on stderr for every change."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def look(self, name: str, state: str, shown: Sequence[Step], facts: Sequence[tuple[str, str]]) -> None:
        """Say what has changed."""
        rows = [(name, state, "")] + [(s.name, s.state, duration(s.seconds)) for s in shown if not s.inner and s.state]
        for what, now, took in [*rows, *((k, v, "") for k, v in facts)]:
            if now and self._told.get(what) != now:
                self._told[what] = now
                ended = f" after {took}" if took and now in ("SUCCEEDED", "FAILED", "CANCELED") else ""
                self.note(f"{what} {now}{ended}")

    def note(self, text: str) -> None:
        """Say something, with the time."""
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Table:
    """A table of the steps on stdout, drawn anew at each look."""

    def __init__(self, live: Any) -> None:
        self._live, self._note = live, ""

    def look(self, name: str, state: str, shown: Sequence[Step], facts: Sequence[tuple[str, str]]) -> None:
        """Draw."""
        from rich import box
        from rich.table import Table as Grid
        from rich.text import Text

        grid = Grid(box=box.SIMPLE, title=Text(f"{name}  {state}  {self._note}".rstrip()), title_justify="left")
        for head in ("step", "state", "time"):
            grid.add_column(head, justify="right" if head == "time" else "left")
        for step in shown:
            told = Text(step.state or "-", style=COLORS.get(step.state, "dim"))
            grid.add_row(Text("  " * step.depth + step.name), told, duration(step.seconds))
        for key, value in facts:
            grid.add_row(Text(key), Text(value), "")
        self._live.update(grid, refresh=True)
        self._note = ""

    def note(self, text: str) -> None:
        """Say something above the table, and in its title until the next look."""
        self._note = text
        self._live.console.print(text, highlight=False, markup=False)


@contextlib.contextmanager
def display() -> Iterator[Display]:
    """A table where stdout is a terminal, else lines."""
    if not sys.stdout.isatty():
        yield Lines()
        return
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield Table(live)


def duration(seconds: float | None) -> str:
    """`42 s`, `3 min 07 s`, `2 h 05 min`; empty for None."""
    if seconds is None:
        return ""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
