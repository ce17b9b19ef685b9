"""One lane: its documents, end to end and without end, cut into samples, and the cursor of the next one."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.errors import ChangedSource, InputError
from headrace.stream.order import Order
from headrace.stream.windows import Encoded, Feed, Windows

FIRST_CHUNK_BYTES = 32 << 10
"""Text that a lane encodes at first: little, so that a start with many lanes is quick."""
CHUNK_BYTES = 256 << 10
"""Text encoded at once after that."""
PATIENCE = 16
"""A lane stands at one of V runs an epoch, as if drawn: after 16·V epochs it has missed a document once in e¹⁶."""

Place = tuple[int, int, int, int]
"""Epoch, segment, window and row in the window's order."""


class Cursor(NamedTuple):
    """The first token of a lane's next sample; equal places have equal cursors."""

    epoch: int
    segment: int
    window: int
    row: int
    """Place in the window's permuted order."""
    token: int
    """Offset in that document's tokens, its EOS being the last."""
    samples: int
    """Samples taken before."""


START = Cursor(0, 0, 0, 0, 0, 0)


class Span(NamedTuple):
    """Tokens start … end−1 of one document, as they stand in a sample."""

    epoch: int
    segment: int
    window: int
    row: int
    start: int
    end: int


class Sample:
    """ids: int32 [n ≤ L], shorter only where a lane ended or documents are not grouped.

    starts: offsets at which each document's tokens begin, the first 0. source: which part of a mixture it is from.
    """

    __slots__ = ("_places", "_token", "ids", "source", "starts")

    def __init__(self, ids: NDArray[np.int32], starts: list[int], places: list[Place], token: int) -> None:
        self.ids, self.starts, self._places, self._token = ids, starts, places, token
        self.source = 0

    @property
    def spans(self) -> tuple[Span, ...]:
        """Which tokens of which documents these are."""
        firsts = [self._token, *(0 for _ in self.starts[1:])]
        ends = [*self.starts[1:], len(self.ids)]
        return tuple(
            Span(*place, first, first + end - start)
            for place, first, start, end in zip(self._places, firsts, self.starts, ends, strict=True)
        )


class Tally:
    """Rows that were passed over, by the reason; those of a chunk that is read ahead are counted too."""

    def __init__(self) -> None:
        self._lock, self._counts = threading.Lock(), Counter[str]()

    def add(self, counts: Mapping[str, int]) -> None:
        """Count some more."""
        if counts:
            with self._lock:
                self._counts.update(counts)

    def counts(self) -> dict[str, int]:
        """What was counted."""
        with self._lock:
            return dict(self._counts)


class _Chunk(NamedTuple):
    encoded: Encoded
    then: Place


class Lane:
    """Samples of one lane, from a cursor on.

    `epochs` None: without end. grouped False: a sample holds tokens of one document only. `encoders` encode a chunk
    ahead; `readers` read `depth` windows ahead; without them everything happens when it is asked for.
    """

    def __init__(
        self,
        lane: int,
        order: Order,
        feed: Feed,
        block: int,
        *,
        cursor: Cursor | None = None,
        epochs: int | None = None,
        grouped: bool = True,
        encoders: Executor | None = None,
        readers: Executor | None = None,
        depth: int = 1,
        dropped: Tally | None = None,
    ) -> None:
        self.lane, self._order, self._block = lane, order, block
        self._epochs, self._grouped, self._encoders = epochs, grouped, encoders
        start = cursor or START
        self.windows = Windows(lane, order, feed.lane(), start[:3], epochs=epochs, readers=readers, depth=depth)
        self._samples = start.samples
        # Tokens that are encoded and not yet used up, from `_at` on; document i is `_starts[i]` … `_ends[i]` − 1,
        # its start below 0 where its first tokens were used up and let go. Before a restart's first chunk, `_at`
        # is the token it stands at.
        self._ids = np.empty(0, np.int32)
        self._at = start.token
        self._document = 0
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._places: list[Place] = []
        self._head: Place = start[:4]
        self._ahead: tuple[Place, Future[_Chunk]] | None = None
        self._last_found = start.epoch
        self._patience = PATIENCE * order.lanes
        self._chunk_bytes = FIRST_CHUNK_BYTES
        self.encoded_documents = 0
        self._dropped = dropped or Tally()

    def ahead(self) -> None:
        """Begin to read, where there are threads to do so."""
        self.windows.ahead()

    @property
    def cursors(self) -> tuple[Cursor, ...]:
        """The cursor, as the only one of this lane."""
        return (self.cursor,)

    @property
    def ended(self) -> bool:
        """Whether the lane has no further token; only with `epochs`."""
        return not self._has(1)

    @property
    def cursor(self) -> Cursor:
        """The place of the next sample's first token; reads ahead to it when it is not known yet."""
        if self._at >= len(self._ids) and not self._has(1):
            return Cursor(*self._head, 0, self._samples)
        document = self._document
        return Cursor(*self._places[document], self._at - self._starts[document], self._samples)

    def next(self) -> Sample | None:
        """The next sample, or None when the lane has ended; a lane that ended still counts samples."""
        self._samples += 1
        if not self._has(self._block if self._grouped else 1) and not self._has(1):
            return None
        at, first, starts, ends = self._at, self._document, self._starts, self._ends
        end = min(at + self._block, len(self._ids) if self._grouped else ends[first])
        last = first
        while ends[last] < end:
            last += 1
        within = [0, *[s - at for s in starts[first + 1 : last + 1]]] if last > first else [0]
        self._at, self._document = end, last + (ends[last] == end)
        return Sample(self._ids[at:end], within, self._places[first : last + 1], at - starts[first])

    def _has(self, tokens: int) -> bool:
        """Whether so many tokens follow, once all are encoded that are needed to say so."""
        while len(self._ids) - self._at < tokens:
            if not self._advance():
                return False
        return True

    def _advance(self) -> bool:
        """Encode the next chunk of documents; False at the end of the last epoch."""
        head = self._head
        if self._epochs is not None and head[0] >= self._epochs:
            return False
        if head[0] - self._last_found > self._patience:
            raise InputError(
                f"lane {self.lane} found no document to train on in {head[0] - self._last_found} epochs",
                "the data is empty, blank, filtered out or all of it is held out: look at `headrace validate`'s report",
            )
        encoded, self._head = self._take(head)
        self._append(encoded, head)
        if self._encoders and self.windows.there(self._head[:3]):
            self._ahead = (self._head, self._encoders.submit(self._load, self._head))
        return True

    def _append(self, encoded: Encoded, head: Place) -> None:
        self._dropped.add(encoded.dropped)
        lengths = np.diff(encoded.ends, prepend=0)
        kept = np.flatnonzero(lengths)
        if not len(self._ids) and self._at and (not len(lengths) or lengths[0] <= self._at):
            raise ChangedSource(
                f"lane {self.lane} stands at token {self._at} of a document that is shorter now",
                "the data or the tokenizer changed since the checkpoint was written",
            )
        if not len(kept):
            return
        self._last_found = head[0]
        self.encoded_documents += len(kept)
        left = len(self._ids) - self._at
        if len(self._ids):  # let go what is used up
            first = self._document
            self._starts = [s - self._at for s in self._starts[first:]]
            self._ends = [e - self._at for e in self._ends[first:]]
            self._places = self._places[first:]
            self._ids = np.concatenate([self._ids[self._at :], encoded.ids]) if left else encoded.ids
            self._at = self._document = 0
        else:
            left, self._ids = 0, encoded.ids
        ends = encoded.ends[kept] + left
        self._ends += ends.tolist()
        self._starts += (ends - lengths[kept]).tolist()
        self._places += [(*head[:3], head[3] + i) for i in kept.tolist()]

    def _take(self, head: Place) -> _Chunk:
        ahead, self._ahead = self._ahead, None
        return ahead[1].result() if ahead and ahead[0] == head else self._load(head)

    def _load(self, head: Place) -> _Chunk:
        epoch, segment, number, row = head
        if number >= len(self._order.windows(epoch, segment, self.lane)):
            after = (epoch, segment + 1, 0, 0) if segment + 1 < self._order.segments else (epoch + 1, 0, 0, 0)
            return _Chunk(Encoded(np.empty(0, np.int32), np.empty(0, np.int64), {}), after)
        window = self.windows.get((epoch, segment, number))
        before = int(window.upto[row - 1]) if row else 0
        stop = max(row + 1, int(np.searchsorted(window.upto, before + self._chunk_bytes, "right")))
        self._chunk_bytes = CHUNK_BYTES
        after = (epoch, segment, number, stop) if stop < len(window.upto) else (epoch, segment, number + 1, 0)
        return _Chunk(window.encode(row, stop), after)


def expected_samples(step: int, lane: int, *, global_batch: int, lanes: int) -> int:
    """Samples a lane has given after a step: the checksum of its cursor."""
    return max(0, -(-(step * global_batch - lane) // lanes))
