"""How a step says how it ended (`outcome.json`) and how far it has got (`progress.json`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace.artifacts.files import finite, read_json, write_json
from headrace.errors import InputError

OUTCOME = "outcome.json"
PROGRESS = "progress.json"


def write_outcome(folder: Path, code: int, error: str = "", remedy: str = "", **facts: Any) -> Path:
    """Leave the exit code, the error and further facts of a step in its folder; the file's path."""
    path = folder / OUTCOME
    write_json(path, {"code": code, "error": error, "remedy": remedy, **finite(facts)})
    return path


def read_outcome(folder: Path) -> dict[str, Any]:
    """What `write_outcome` left; InputError when there is none: the step was killed or has not ended."""
    outcome = read_json(folder / OUTCOME)
    if not isinstance(outcome, dict) or not isinstance(outcome.get("code"), int):
        raise InputError(f"{folder / OUTCOME} holds no exit code; expected an object with an integer 'code'")
    return outcome


class Progress:
    """Writes how far a step has got, at most every half second, so that watching costs nothing."""

    INTERVAL_S = 0.5

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._phase: str | None = None
        self._written = 0.0

    def update(self, phase: str, done: float, total: float | None, unit: str, **fields: Any) -> None:
        """Note the state; written now when the phase is new, it is complete, or half a second has passed."""
        with self._lock:
            now = self._clock()
            due = phase != self._phase or done == total or now - self._written >= self.INTERVAL_S
            if not due:
                return
            self._phase, self._written = phase, now
            state = {"phase": phase, "done": done, "total": total, "unit": unit, **fields}
            write_json(self._path, finite(state), durable=False)


def read_progress(path: Path) -> dict[str, Any] | None:
    """The last state written, or None when there is none yet."""
    try:
        state = read_json(path)
    except InputError:
        return None
    return state if isinstance(state, dict) else None
