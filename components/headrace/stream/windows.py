"""The windows of a lane, one after another, read ahead of need in threads that own no position."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.stream.order import Order, Piece

log = logging.getLogger(__name__)

SLOW_S = 10.0
"""Waiting so long for data is told, and again after every further such time."""

Key = tuple[int, int, int]
"""Epoch, segment and window."""


class Encoded(NamedTuple):
    """Documents as tokens, each with its EOS; dropped ones have no tokens.

    ids: int32 [n]. ends: int64 [documents], the offset behind each document in ids. dropped: rows by the reason.
    """

    ids: NDArray[np.int32]
    ends: NDArray[np.int64]
    dropped: Mapping[str, int]


class Window(Protocol):
    """The rows of a window, in the order in which they are trained."""

    upto: NDArray[np.int64]
    """Bytes of rows 0 … i, about, each at least 1: int64 [rows]."""

    def encode(self, start: int, stop: int) -> Encoded:
        """The tokens of rows start … stop−1, none for rows that are not trained."""


ReadWindow = Callable[[Sequence[Piece], NDArray[np.int64]], Window]
"""Reads the rows of some pieces and puts them into an order, int64 [rows]."""


class Feed(Protocol):
    """What lanes read from."""

    def lane(self) -> ReadWindow:
        """A reader for one lane, which asks for its windows one after another."""


class Windows:
    """The windows of one lane from a place on; `readers` read up to `depth` of them ahead, one at a time."""

    def __init__(
        self,
        lane: int,
        order: Order,
        read: ReadWindow,
        start: Key,
        *,
        epochs: int | None = None,
        readers: Executor | None = None,
        depth: int = 1,
    ) -> None:
        self._lane, self._order, self._read, self._epochs = lane, order, read, epochs
        self._readers, self._depth = readers, depth
        self._next: Key | None = start
        self._ready: deque[tuple[Key, Window | BaseException]] = deque()
        self._held: tuple[Key, Window] | None = None
        self._begun = self._reading = False
        self._changed = threading.Condition()

    def ahead(self) -> None:
        """Begin to read, where there are threads to do so."""
        if self._readers is not None and not self._begun:
            self._begun = True
            with self._changed:
                self._go_on()

    def there(self, key: Key) -> bool:
        """Whether `get` would not have to wait."""
        if self._held is not None and self._held[0] == key:
            return True
        with self._changed:
            return bool(self._ready) and self._ready[0][0] == key

    def get(self, key: Key) -> Window:
        """A window: the one given last, or one behind it. Raises what reading it raised."""
        if self._held is None or self._held[0] != key:
            self._held = None  # let go before the next one is waited for
            self._held = (key, self._wait(key) if self._readers else self._load(key))
        return self._held[1]

    def _wait(self, key: Key) -> Window:
        began = time.monotonic()
        with self._changed:
            while not self._ready:
                if not self._reading:
                    self._next = key
                self._go_on()
                if not self._changed.wait(SLOW_S):
                    log.info("waiting for data: %.0f s for %s", time.monotonic() - began, self._named(key))
            found, window = self._ready.popleft()
            self._go_on()
        assert found == key, (found, key)
        if isinstance(window, BaseException):
            raise window
        return window

    def _named(self, key: Key) -> str:
        epoch, segment, window = key
        pieces = self._order.windows(epoch, segment, self._lane)[window]
        return ", ".join(f"file {p.file} row group {p.row_group}" for p in pieces[:3])

    def _go_on(self) -> None:
        """Read the next window when there is room for it; the lock is held."""
        if self._readers is None or self._reading or self._next is None or len(self._ready) >= self._depth:
            return
        self._reading = True
        try:
            self._readers.submit(self._read_one, self._next)
        except RuntimeError:  # closed while the last windows were being read
            self._reading = False

    def _read_one(self, wanted: Key) -> None:
        found: Window | BaseException | None = None
        key, after = None, None
        try:
            key = self._first(wanted)
            if key is not None:
                found, after = self._load(key), (*key[:2], key[2] + 1)
        except BaseException as error:  # raised again where it is asked for
            found = error
        with self._changed:
            if found is not None:
                self._ready.append((key or wanted, found))
            self._next, self._reading = after, False
            self._go_on()
            self._changed.notify_all()

    def _load(self, key: Key) -> Window:
        epoch, segment, window = key
        pieces = self._order.windows(epoch, segment, self._lane)[window]
        rows = sum(p.end - p.start for p in pieces)
        return self._read(pieces, self._order.row_order(epoch, segment, self._lane, window, rows))

    def _first(self, key: Key) -> Key | None:
        """The first window at a place or behind it; None where none follows soon, or the last epoch ends."""
        epoch, segment, window = key
        for _ in range(2 * self._order.segments):
            if self._epochs is not None and epoch >= self._epochs:
                return None
            if window < len(self._order.windows(epoch, segment, self._lane)):
                return epoch, segment, window
            window, segment = 0, segment + 1
            if segment == self._order.segments:
                epoch, segment = epoch + 1, 0
        return None
