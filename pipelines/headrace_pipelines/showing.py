"""What a person sees of a run on this machine: a bar a step while it goes on, a table at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

from headrace.artifacts.files import read_json
from headrace.artifacts.outcome import OUTCOME, PROGRESS, read_progress

LINE_EVERY_S = 10.0
"""Between lines where no bar can be drawn."""
SHOWN = {"loss": "loss", "tokens_per_s": "tokens/s"}
"""Fields of progress.json beside the bar, by what they are called there."""


class Showing:
    """Follows the steps of a run folder; `look` is cheap and may be called often."""

    def __init__(self, folder: Path, steps: Sequence[str]) -> None:
        self._folder, self._steps = folder, steps
        self._live = sys.stderr.isatty()
        self._bar: tqdm[Any] | None = None
        self._shown: tuple[str, str] | None = None
        self._began: dict[str, float] = {}
        self._ended: set[str] = set()
        self._said = 0.0

    def __enter__(self) -> Showing:
        self._say(f"run folder {self._folder}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def look(self) -> None:
        """Show what has changed."""
        for step in self._steps:
            if step in self._ended or not (self._folder / step).is_dir():
                continue
            self._began.setdefault(step, time.monotonic())
            state = read_progress(self._folder / step / PROGRESS)
            if state is not None:
                self._show(step, state)
            if (self._folder / step / OUTCOME).is_file():
                self._ended.add(step)
                self._close()
                code = read_json(self._folder / step / OUTCOME)["code"]
                took = time.monotonic() - self._began[step]
                self._say(f"{step:8s} {'done' if code == 0 else f'ended with code {code}'} in {took:.0f} s")

    def _show(self, step: str, state: dict[str, Any]) -> None:
        phase, done, total = str(state["phase"]), state["done"], state["total"]
        facts = {shown: _short(state[k]) for k, shown in SHOWN.items() if state.get(k) is not None}
        if not self._live:
            if time.monotonic() - self._said >= LINE_EVERY_S:
                share = f"{done:,}/{total:,}" if total else f"{done:,}"
                told = "".join(f", {k} {v}" for k, v in facts.items())
                self._say(f"{step:8s} {phase}: {share} {state['unit']}{told}")
            return
        if self._shown != (step, phase):
            self._close()
            self._shown = (step, phase)
            self._bar = tqdm(
                desc=step if phase == step else f"{step}: {phase}", total=total, unit=f" {state['unit']}",
                dynamic_ncols=True, leave=False, file=sys.stderr,
            )  # fmt: skip
        if self._bar is not None:
            self._bar.set_postfix(facts, refresh=False)
            self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._shown = None, None

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        print(text, file=sys.stderr, flush=True)


def _short(value: Any) -> str:
    return f"{value:,.0f}" if isinstance(value, float) and value >= 1000 else f"{value:.4g}"


def summary(folder: Path) -> str:
    """The table of a run that ended well."""
    verdict = read_json(folder / "validate" / "report.json")["verdict"]
    training = read_json(folder / "train" / "headrace.json")
    metrics = read_json(folder / "evaluate" / "metrics.json")
    published = read_json(folder / "evaluate" / OUTCOME)["published"]
    low, high = metrics["eval_loss_interval"]
    rows = [
        ("validation", verdict),
        ("steps", f"{training['steps']:,}"),
        ("tokens", f"{training['tokens']:,}"),
        ("tokens/s", f"{training['tokens_per_s']:,.0f}"),
        ("held-out loss", f"{metrics['eval_loss']:.4f} nats a token (95 %: {low:.4f} to {high:.4f})"),
        ("unigram loss", f"{metrics['unigram_loss']:.4f}; the model's is {metrics['loss_over_unigram']:.3f} of it"),
        ("perplexity", "overflows" if metrics["perplexity"] is None else f"{metrics['perplexity']:,.1f}"),
        ("accuracy", f"{metrics['accuracy']:.1%} of next tokens"),
        ("bits a byte", f"{metrics['bits_per_byte']:.3f}"),
        ("published", published),
    ]
    return tabulate(rows, tablefmt="plain", disable_numparse=True)
