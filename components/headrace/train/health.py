"""How a training is: losses that are not numbers or stand out, steps that do not end, and where the time goes."""

from __future__ import annotations

import logging
import math
import resource
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

log = logging.getLogger(__name__)

COMPARED, ENOUGH = 100, 20
"""Steps before it that a loss is compared with: at most, and at least."""
SPREADS, SHARE = 10.0, 0.25
"""A loss stands out when it lies so many median deviations, and such a share of the median, above the median."""
QUIET_STEPS = 25
"""After a warning of a loss that stands out, none for so many steps."""
FP16_PATIENCE = 10
"""Steps in a row without a finite loss while fp16 looks for its scale."""
STALLED_S, STALLED_STEPS = 120.0, 20.0
"""A step is said to be stalled after so many seconds, and so many times its usual length."""


class Losses:
    """Each step's loss on this rank, without making the device wait: on an accelerator it is known one step later."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sum: torch.Tensor | None = None
        self._pending: deque[tuple[int, torch.Tensor, Any]] = deque()

    def add(self, loss: torch.Tensor) -> None:
        """Note a micro-batch's loss, as `training_step` returns it."""
        self._sum = loss.detach().clone() if self._sum is None else self._sum + loss.detach()

    def end(self, step: int, *, now: bool) -> list[tuple[int, float]]:
        """End a step: the steps whose losses are known by now, all of them with `now`. Equal on every rank."""
        if self._sum is not None:
            event = None
            value = self._sum.float()
            if self._device.type == "cuda":
                value = value.to("cpu", non_blocking=True)
                event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                event.record()
            self._pending.append((step, value, event))
            self._sum = None
        later = 0 if now or self._device.type != "cuda" else 1
        found = []
        while len(self._pending) > later:
            s, value, event = self._pending.popleft()
            if event is not None:
                event.synchronize()
            found.append((s, float(value)))
        return found


class Watch:
    """Judges the losses of steps as they become known."""

    def __init__(self, *, patience: int = 1) -> None:
        self._patience, self._bad = patience, 0
        self._before: deque[float] = deque(maxlen=COMPARED)
        self._warned = -QUIET_STEPS

    def unbearable(self, loss: float) -> bool:
        """Whether the training has to stop: no finite loss for longer than is borne."""
        self._bad = 0 if math.isfinite(loss) else self._bad + 1
        return self._bad >= self._patience

    def spike(self, step: int, loss: float) -> float | None:
        """The usual loss, when this one stands out from it."""
        before = list(self._before)
        self._before.append(loss)
        if len(before) < ENOUGH or not math.isfinite(loss) or step - self._warned < QUIET_STEPS:
            return None
        middle = statistics.median(before)
        spread = statistics.median(abs(x - middle) for x in before)
        if loss <= middle + max(SPREADS * spread, SHARE * abs(middle)):
            return None
        self._warned = step
        return middle


@dataclass
class Clock:
    """Where the time went since the last log: seconds of steps, of waiting for data, and of pauses for commits."""

    since: float = field(default_factory=time.monotonic)
    steps: int = 0
    waited_s: float = 0.0
    paused_s: float = 0.0
    scored_s: float = 0.0

    def take(self) -> dict[str, float]:
        """The figures of a log entry; counting starts anew."""
        passed = max(time.monotonic() - self.since - self.scored_s, 1e-9)
        found = {
            "step_s": round((passed - self.paused_s) / max(1, self.steps), 5),
            "data_wait": round(self.waited_s / passed, 5),
            "commit_pause_s": round(self.paused_s, 4),
        }
        self.since, self.steps, self.waited_s, self.paused_s, self.scored_s = time.monotonic(), 0, 0.0, 0.0, 0.0
        return found


CLOCKED = ("step_s", "data_wait", "commit_pause_s", "memory_mb", "mfu", "tokens_per_s")
"""Names in the log that differ from run to run, as they are read off a clock or the machine."""

# Dense bf16 operations a second, from the makers' data sheets.
PEAK = {
    "H200": 989e12, "H100": 989e12, "GH200": 989e12, "B200": 2250e12, "A100": 312e12, "A10": 125e12, "L40S": 362e12,
    "L4": 121e12, "RTX 4090": 165e12, "V100": 125e12, "T4": 65e12,
}  # fmt: skip


def peak_flops(device: torch.device) -> float | None:
    """What an accelerator can do at most in half precision; None where that is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for known, flops in sorted(PEAK.items(), reverse=True) if known in name), None)


def flops_per_token(model: Any, block: int) -> float:
    """Operations of a forward and backward pass: 6 a parameter, and 12·layers·width·block for attention.

    Source: Chowdhery et al., PaLM (2022), appendix B.
    """
    config = model.config.get_text_config()
    layers, width = getattr(config, "num_hidden_layers", 0), getattr(config, "hidden_size", 0)
    embedding = model.get_input_embeddings()
    lookup = 0 if embedding is None or config.tie_word_embeddings else embedding.weight.numel()
    parameters = sum(p.numel() for p in model.parameters()) - lookup
    return float(6 * parameters + 12 * layers * width * block)


def memory_mb(device: torch.device) -> float:
    """Peak memory so far: of the accelerator, or of this process."""
    if device.type == "cuda":
        return float(round(torch.cuda.max_memory_allocated(device) / 1e6, 1))
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)


class Watchdog:
    """Warns, from a thread of its own, of a step that does not end."""

    def __init__(self, say: Callable[[str], None] = log.warning, *, least_s: float = STALLED_S) -> None:
        self._say, self._least_s = say, least_s
        self._lengths: deque[float] = deque(maxlen=COMPARED)
        self._beat, self._doing, self._step = time.monotonic(), "", 0
        self._limit = least_s
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._watch, daemon=True, name="headrace-watchdog").start()

    def doing(self, what: str) -> None:
        """Say what is being done now, which a warning names."""
        self._doing = what

    def beat(self, step: int, *, whole: bool = True) -> None:
        """A step ended, or with `whole` false something beside the steps did."""
        now = time.monotonic()
        if whole:
            self._lengths.append(now - self._beat)
        self._beat, self._step = now, step
        self._limit = max(self._least_s, STALLED_STEPS * statistics.median(self._lengths or [0.0]))

    def stop(self) -> None:
        """End the watch."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(self._least_s / 10):
            passed = time.monotonic() - self._beat
            if passed > self._limit:
                usual = f", usually {statistics.median(self._lengths):.1f} s" if self._lengths else ""
                self._say(f"step {self._step + 1} has not ended for {passed:.0f} s{usual}: {self._doing}")
                self._limit = 2 * passed
