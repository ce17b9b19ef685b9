"""Commits checkpoints in a thread of its own, so that training goes on while files are hashed and uploaded."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from headrace.errors import HeadraceError, InputError

log = logging.getLogger(__name__)

ATTEMPTS = 3
WAIT_S = 5.0
"""Before a failed commit is tried again; each attempt has the store's own retries within."""


class Committer:
    """Runs one commit at a time. A failure is kept, and raised to whoever comes next: the run must not go on."""

    def __init__(self, *, attempts: int = ATTEMPTS, wait_s: float = WAIT_S) -> None:
        self._attempts, self._wait_s = attempts, wait_s
        self._thread: threading.Thread | None = None
        self._failure: HeadraceError | None = None
        self.newest: int | None = None
        """The last step that was committed."""
        self.last_s: float | None = None
        """Seconds that the last commit took, from `submit` on."""

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return self._thread is None or not self._thread.is_alive()

    @property
    def failed(self) -> bool:
        """Whether the run must stop."""
        return self._failure is not None

    def fail(self, error: HeadraceError) -> None:
        """Let the run end with an error that came up beside it, and commit no more."""
        self._failure = self._failure or error

    def check(self) -> None:
        """Raise what failed, if anything did."""
        if self._failure is not None:
            raise self._failure

    def submit(self, step: int, work: Callable[[], object]) -> None:
        """Commit in the background; waits for the commit before. Raises what failed earlier."""
        self.wait()
        self.check()
        self._thread = threading.Thread(target=self._run, args=(step, work), daemon=True, name="headrace-commit")
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for what is under way; whether it has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self.idle

    def _run(self, step: int, work: Callable[[], object]) -> None:
        began = time.monotonic()
        for attempt in range(1, self._attempts + 1):
            if self._failure is not None:
                return
            try:
                work()
            except Exception as error:
                known = isinstance(error, HeadraceError)
                if known and not isinstance(error, InputError) and attempt < self._attempts:
                    log.warning("checkpoint-%d is not committed yet: %s; trying again", step, error)
                    time.sleep(self._wait_s)
                    continue
                self.fail(_told(step, error))
                return
            self.newest, self.last_s = step, time.monotonic() - began
            return


def _told(step: int, error: Exception) -> HeadraceError:
    if isinstance(error, HeadraceError):
        return type(error)(f"checkpoint-{step} could not be committed: {error.message}", error.remedy)
    return disk_error(f"checkpoint-{step}", error)


def disk_error(what: str, error: Exception) -> HeadraceError:
    """What failed to be written, and what is still there."""
    return HeadraceError(
        f"cannot write {what}: {error or type(error).__name__}",
        "make room (--save_total_limit keeps fewer checkpoints), then run the same command again: "
        "earlier commits are whole",
    )
