"""Being asked to stop: a signal is noted, acted upon between two steps, and never costs what was committed."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from headrace.errors import EXIT_PREEMPTED, Preempted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
FORWARDED_S = 5.0
"""A launcher passes on what its whole process group was sent: within this time it is the same signal."""
_PARENT_DEATH_SIGNAL = 1
AGAIN = "run the same command again: it goes on from the newest commit"


def end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when the one that started it is gone."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)


class Interrupted(Exception):
    """Unwinds what can be left at any point, such as an evaluation, once all ranks know of the signal."""


class Stopping:
    """Whether this process was asked to stop, and how long it has until it is killed.

    The first SIGTERM or SIGUSR1 raises Preempted where it meets the process, unless `noted` was called: then it is
    only noted. A second one ends the process at once with code 75.
    """

    def __init__(self, grace_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace_s, self._clock = grace_s, clock
        self._asked_at: float | None = None
        self._only_note = False
        self._launched = "TORCHELASTIC_RUN_ID" in os.environ
        self.signal = ""
        """Name of the signal that came."""

    def listen(self) -> Stopping:
        """Take the signals from now on; does nothing outside of the main thread, which alone may."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._take)
        return self

    def noted(self) -> None:
        """From now on only note a signal: `asked` is looked at between two steps. Preempted if one came already."""
        self._only_note = True
        if self.asked:
            raise Preempted(f"stopped by {self.signal} before the first step", AGAIN)

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self._asked_at is not None

    def left_s(self) -> float:
        """Seconds until the process must have ended; the whole grace period before any signal."""
        return self._grace_s - (self._clock() - self._asked_at if self._asked_at is not None else 0.0)

    def _take(self, number: int, frame: FrameType | None) -> None:
        now = self._clock()
        if self._asked_at is not None:
            if not self._launched or now - self._asked_at > FORWARDED_S:
                os.write(2, b"headrace: a second signal: leaving at once; what was committed is whole\n")
                os._exit(EXIT_PREEMPTED)
            return
        self._asked_at, self.signal = now, signal.Signals(number).name
        if not self._only_note:
            raise Preempted(f"stopped by {self.signal} before the first step", AGAIN)
        os.write(2, f"headrace: {self.signal}: stopping after this step\n".encode())
