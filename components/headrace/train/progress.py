"""One line that says how the training goes, and `progress.json` for those who watch from outside."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState

from headrace.artifacts.outcome import PROGRESS, Progress
from headrace.train.batches import Batches

log = logging.getLogger(__name__)

LINES_S = 10.0
"""Seconds between redraws where stderr is kept line by line, as in a pod's log."""
SMOOTHED = 0.9


class Reporter:
    """Phases before and after the training: a bar each, and `progress.json`. Silent on all ranks but the first."""

    def __init__(self, output_dir: Path, *, shown: bool, speaks: bool) -> None:
        self._file = Progress(output_dir / PROGRESS) if speaks else None
        self.shown = shown and speaks
        self._bar: Any = None
        self._phase = ""

    def update(self, phase: str, done: int, total: int | None, unit: str, **fields: Any) -> None:
        """Note how far a phase is."""
        if self._file is not None:
            self._file.update(phase, done, total, unit, **fields)

    def __call__(self, phase: str, done: int, total: int | None, unit: str) -> None:
        """The same, with a bar on stderr while there is more to come."""
        self.update(phase, done, total, unit)
        if not self.shown:
            return
        if self._bar is None or self._phase != phase:
            self.close()
            self._bar, self._phase = bar(phase, total, unit), phase
        self._bar.update(done - self._bar.n)
        if done == total:
            self.close()

    def close(self) -> None:
        """End the bar of the current phase."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def bar(phase: str, total: int | None, unit: str, initial: int = 0) -> Any:
    """A tqdm bar on stderr that keeps a log short: none for what is over in a moment."""
    interval = 0.2 if sys.stderr.isatty() else LINES_S
    return tqdm(
        desc=phase, total=total, unit=f" {unit}", initial=initial, dynamic_ncols=True, file=sys.stderr,
        leave=phase == "train", mininterval=interval, delay=0 if phase == "train" else interval,
    )  # fmt: skip


class Bar(TrainerCallback):
    """The training's bar: steps, loss, tokens a second over all ranks, and the time that is left."""

    def __init__(self, reporter: Reporter, batches: Batches, world_size: int) -> None:
        self._reporter, self._batches, self._world_size = reporter, batches, world_size
        self._bar: Any = None
        self._fields: dict[str, Any] = {}
        self._mark = (0.0, 0)
        self._speed = self._step_s = 0.0

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._mark = (time.monotonic(), self._batches.tokens)
        if self._reporter.shown:
            self._bar = bar("train", state.max_steps, "steps", state.global_step)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now, tokens = time.monotonic(), self._batches.tokens
        passed = max(now - self._mark[0], 1e-9)
        speed = (tokens - self._mark[1]) * self._world_size / passed
        self._mark = (now, tokens)
        first = not self._speed
        self._speed = speed if first else SMOOTHED * self._speed + (1 - SMOOTHED) * speed
        self._step_s = passed if first else SMOOTHED * self._step_s + (1 - SMOOTHED) * passed
        left = max(0, state.max_steps - state.global_step)
        self._reporter.update(
            "train", state.global_step, state.max_steps, "steps",
            tokens_per_s=round(self._speed, 1), eta_s=round(left * self._step_s, 1), **self._fields,
        )  # fmt: skip
        if self._bar is not None:
            self._bar.total = state.max_steps
            self._bar.set_postfix_str(self._postfix(), refresh=False)
            self._bar.update(state.global_step - self._bar.n)

    def _postfix(self) -> str:
        loss = self._fields.get("loss")
        return f"{self._speed:,.0f} tokens/s" + (f", loss {loss:.4f}" if isinstance(loss, float) else "")

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any) -> None:
        if not state.is_world_process_zero or not logs:
            return
        if "loss" in logs:
            self._fields = {"loss": logs["loss"], "learning_rate": logs.get("learning_rate")}
        shown = {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in logs.items() if k not in ("total_flos",)}
        log.info("step %d: %s", state.global_step, ", ".join(f"{k} {v}" for k, v in shown.items()))

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._mark = (time.monotonic(), self._batches.tokens)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._mark = (time.monotonic(), self._batches.tokens)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._bar is not None:
            self._bar.close()
