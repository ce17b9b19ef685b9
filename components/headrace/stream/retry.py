"""Reads that fail are tried again where they stood, until one deadline, then fail with their cause."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

import pyarrow as pa

from headrace.errors import DamagedData, HeadraceError, InputError

log = logging.getLogger(__name__)
T = TypeVar("T")
_THREAD = threading.local()

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
STALL_S = 30.0
"""A remote read that gives nothing for so long, not even a sign of life, is begun anew, then after twice as long."""
LOOK_S = 0.2
TOLD_S = 10.0
"""A remote read that lasts so long is told of, again and again."""
NO_USE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def retrying(
    read: Callable[[], T],
    what: str,
    deadline_s: float,
    *,
    remote: bool = False,
    closing: threading.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """The answer of `read`; HeadraceError with the cause after `deadline_s` seconds of failures.

    What no retry mends (nothing there, no permission, a file that is not Parquet) is raised at once as InputError;
    DamagedData where it can be read but not decoded. A remote read that stalls is left behind and begun anew; `closing`
    ends it early, with `Closed`. A read that lasts tells of each part of it with `going_on`: it takes its time.
    """
    closing = closing or threading.Event()
    began, patience = clock(), STALL_S
    failed = False
    wait = FIRST_WAIT_S
    damaged = False
    while True:
        signs = Signs()
        try:
            left = max(1.0, deadline_s - (clock() - began))
            return within(read, what, min(patience, left), closing, signs) if remote else read()
        except Exception as error:
            if not failed:  # what it gave before took time, and was no failure
                began, failed = began + signs.lasted, True
            if isinstance(error, InputError | MemoryError | Closed):
                raise
            if isinstance(error, pa.ArrowInvalid):
                raise DamagedData(f"cannot read {what}: {error}", "replace the file, or leave it out") from error
            # fsspec says of a server that it cannot reach that nothing is there.
            unreached = connection_error(error) is not None
            if isinstance(error, NO_USE) and not unreached:
                raise InputError(f"cannot read {what}: {error}", "check that it is there and may be read") from error
            if _refused(error):
                raise InputError(f"cannot read {what}: {error}", "check access to it, or copy it elsewhere") from error
            if not unreached and not is_transient(error):
                raise
            left = deadline_s - (clock() - began)
            if _is_damage(error) and (damaged or left <= 0):
                raise DamagedData(f"cannot read {what}: {error}", "replace the file, or leave it out") from error
            damaged = _is_damage(error)
            if isinstance(error, Stalled):
                patience *= 2
            if left <= 0:
                raise HeadraceError(
                    f"cannot read {what}: tried for {deadline_s:.0f} s; last: {type(error).__name__}: {error}",
                    "run the same command again: it goes on where it stopped (--read_deadline_s sets the limit)",
                ) from error
            pause = min(wait * random.uniform(0.75, 1.25), left)
            log.warning("reading %s failed (%s: %s); again in %.1f s", what, type(error).__name__, error, pause)
            if closing.wait(pause):
                raise Closed(f"reading {what} was given up") from error
            wait = min(2 * wait, LONGEST_WAIT_S)


class Stalled(TimeoutError):
    """A read that gave no answer in time."""


class Closed(HeadraceError):
    """A read that nobody waits for any more."""


class Signs:
    """Signs of life of one attempt, which begins now."""

    def __init__(self) -> None:
        self.began = self.last = time.monotonic()

    def note(self) -> None:
        """There is one now."""
        self.last = time.monotonic()

    @property
    def lasted(self) -> float:
        """Seconds from the beginning to the last sign."""
        return self.last - self.began


def going_on() -> None:
    """Tell whoever waits for what this thread reads that a part of it came."""
    signs: Signs | None = getattr(_THREAD, "signs", None)
    if signs is not None:
        signs.note()


def within(read: Callable[[], T], what: str, limit_s: float, closing: threading.Event, signs: Signs) -> T:
    """The answer of `read`, from a thread of its own; Stalled after so many silent seconds, when it is left behind."""
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        _THREAD.signs = signs
        try:
            answers.put((read(), None))
        except BaseException as error:  # raised again where the answer is waited for
            answers.put((None, error))

    threading.Thread(target=work, name="headrace-attempt", daemon=True).start()
    told = 0.0
    while (silent := time.monotonic() - signs.last) < limit_s:
        try:
            answer, error = answers.get(timeout=min(LOOK_S, limit_s - silent))
        except queue.Empty:
            if closing.is_set():
                raise Closed(f"reading {what} was given up") from None
            waited = time.monotonic() - signs.began
            if waited - told > TOLD_S:
                told = waited
                log.info("reading %s is slow: %.0f s so far", what, waited)
            continue
        if error is not None:
            raise error
        return cast(T, answer)
    raise Stalled(f"no answer for {limit_s:.0f} s")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it, one after another."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def connection_error(error: BaseException) -> BaseException | None:
    """The failure to reach a server that an error stands for, if it does."""
    names = ("ClientConnect", "ConnectError", "ConnectTimeout")
    return next(
        (
            e
            for e in chain(error)
            if isinstance(e, ConnectionError | TimeoutError) or type(e).__name__.startswith(names)
        ),
        None,
    )


def _is_damage(error: Exception) -> bool:
    """Whether it is what pyarrow says of damaged pages; a short read over a network looks the same at first."""
    return type(error) is OSError and error.errno is None


def _refused(error: Exception) -> bool:
    """Whether a server said no, or cannot be read by ranges: asking again is no use."""
    status = _status(error)
    return isinstance(error, ValueError) if status is None else status != 429 and 400 <= status < 500


def _status(error: Exception) -> int | None:
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def is_transient(error: Exception) -> bool:
    """Whether a later attempt may work: network and server faults, told by their kind or HTTP status."""
    status = _status(error)
    if status is not None:
        return status == 429 or status >= 500
    if isinstance(error, OSError | TimeoutError | EOFError):
        return True
    # A thread that cannot connect closes the Hub's client, which all threads share; the next attempt gets a new one.
    if isinstance(error, RuntimeError) and "client has been closed" in str(error):
        return True
    module = type(error).__module__
    return module.startswith(("aiohttp", "requests", "httpx", "urllib3", "botocore", "gcsfs", "google"))
