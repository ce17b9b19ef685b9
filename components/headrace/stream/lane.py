"""One lane: its documents, end to end and without end, cut into samples, and the cursor of the next one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headrace.errors import ChangedSource, InputError
from headrace.stream.order import Order, Piece

CHUNK_BYTES = 64 << 10
"""Text encoded at once: small, so that a start with many lanes is quick."""
PATIENCE = 16
"""A lane stands at one of V runs an epoch, as if drawn: after 16·V epochs it has missed a document once in e¹⁶."""


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


class Encoded(NamedTuple):
    """Documents as tokens, each with its EOS; dropped ones have no tokens.

    ids: int32 [n]. ends: int64 [documents], the offset behind each document in ids.
    """

    ids: NDArray[np.int32]
    ends: NDArray[np.int64]


class Feed(Protocol):
    """What a lane reads from: rows of the dataset, and their tokens."""

    def read(self, pieces: Sequence[Piece]) -> pa.Table:
        """The rows of a window, in manifest order."""

    def sizes(self, rows: pa.Table) -> NDArray[np.int64]:
        """Bytes of each row, about: int64 [rows]."""

    def encode(self, rows: pa.Table) -> Encoded:
        """The tokens of these rows, in their order, nothing for rows that are not trained."""


class Span(NamedTuple):
    """Tokens start … end−1 of one document, as they stand in a sample."""

    epoch: int
    segment: int
    window: int
    row: int
    start: int
    end: int


@dataclass(frozen=True)
class Sample:
    """ids: int32 [n ≤ L], shorter only where a lane ended or documents are not grouped."""

    ids: NDArray[np.int32]
    spans: tuple[Span, ...]

    @property
    def starts(self) -> list[int]:
        """Offsets at which each span's tokens begin, the first 0."""
        return list(accumulate((s.end - s.start for s in self.spans[:-1]), initial=0))


class _Window(NamedTuple):
    rows: pa.Table
    upto: NDArray[np.int64]  # bytes of rows 0 … i, in permuted order


class Lane:
    """Samples of one lane, from a cursor on.

    `epochs` None: without end. grouped False: a sample holds tokens of one document only.
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
        pool: Executor | None = None,
    ) -> None:
        self.lane, self._order, self._feed, self._block = lane, order, feed, block
        self._epochs, self._grouped, self._pool = epochs, grouped, pool
        start = cursor or Cursor(0, 0, 0, 0, 0, 0)
        self._samples = start.samples
        # Documents that are encoded and not yet used up, oldest first: (place, ids), the first from `_token` on.
        self._documents: list[tuple[tuple[int, int, int, int], NDArray[np.int32]]] = []
        self._next = 0
        self._token = start.token
        self._have = -start.token
        self._head: tuple[int, int, int, int] = start[:4]
        self._window: tuple[tuple[int, int, int], _Window] | None = None
        self._ahead: tuple[tuple[int, int, int, int], Future[_Chunk]] | None = None
        self._last_found = start.epoch
        self._patience = PATIENCE * order.lanes
        self.encoded_documents = 0

    @property
    def ended(self) -> bool:
        """Whether the lane has no further token; only with `epochs`."""
        self._want(1)
        return self._have <= 0

    @property
    def cursor(self) -> Cursor:
        """The place of the next sample's first token; reads ahead to it when it is not known yet."""
        self._want(1)
        place = self._documents[self._next][0] if self._have > 0 else self._head
        return Cursor(*place, self._token if self._have > 0 else 0, self._samples)

    def next(self) -> Sample | None:
        """The next sample, or None when the lane has ended; a lane that ended still counts samples."""
        self._samples += 1
        self._want(self._block if self._grouped else 1)
        if self._have <= 0:
            return None
        spans: list[Span] = []
        parts: list[NDArray[np.int32]] = []
        need = self._block
        while need and self._next < len(self._documents):
            place, ids = self._documents[self._next]
            take = min(need, len(ids) - self._token)
            spans.append(Span(*place, self._token, self._token + take))
            parts.append(ids[self._token : self._token + take])
            need -= take
            self._have -= take
            self._token += take
            if self._token == len(ids):
                self._next, self._token = self._next + 1, 0
            if not self._grouped:
                break
        return Sample(parts[0] if len(parts) == 1 else np.concatenate(parts), tuple(spans))

    def _want(self, tokens: int) -> None:
        while self._have < tokens and self._advance():
            pass

    def _advance(self) -> bool:
        """Encode the next chunk of documents; False at the end of the last epoch."""
        head = self._head
        if self._epochs is not None and head[0] >= self._epochs:
            return False
        if head[0] - self._last_found > self._patience:
            raise InputError(
                f"lane {self.lane} found no document to train on in {head[0] - self._last_found} epochs",
                "the data is empty, blank, or all of it is held out: look at `headrace validate`'s report",
            )
        chunk = self._take(head)
        del self._documents[: self._next]
        self._next = 0
        if self._have < 0 and (not len(chunk.encoded.ends) or chunk.encoded.ends[0] <= self._token):
            raise ChangedSource(
                f"lane {self.lane} stands at token {self._token} of a document that is shorter now",
                "the data or the tokenizer changed since the checkpoint was written",
            )
        start = 0
        for i, end in enumerate(chunk.encoded.ends.tolist()):
            if end > start:
                self._documents.append(((*head[:3], head[3] + i), chunk.encoded.ids[start:end]))
                self.encoded_documents += 1
            start = end
        self._have += start
        if start:
            self._last_found = head[0]
        self._head = chunk.then
        if self._pool and not (self._epochs is not None and self._head[0] >= self._epochs):
            self._ahead = (self._head, self._pool.submit(self._load, self._head))
        return True

    def _take(self, head: tuple[int, int, int, int]) -> _Chunk:
        ahead, self._ahead = self._ahead, None
        return ahead[1].result() if ahead and ahead[0] == head else self._load(head)

    def _load(self, head: tuple[int, int, int, int]) -> _Chunk:
        epoch, segment, window, row = head
        windows = self._order.windows(epoch, segment, self.lane)
        if window >= len(windows):
            after = (epoch, segment + 1, 0, 0) if segment + 1 < self._order.segments else (epoch + 1, 0, 0, 0)
            return _Chunk(Encoded(np.empty(0, np.int32), np.empty(0, np.int64)), after)
        data = self._read(epoch, segment, window, windows[window])
        count = len(data.upto)
        before = int(data.upto[row - 1]) if row else 0
        stop = max(row + 1, int(np.searchsorted(data.upto, before + CHUNK_BYTES, "right")))
        encoded = self._feed.encode(data.rows.slice(row, stop - row))
        after = (epoch, segment, window, stop) if stop < count else (epoch, segment, window + 1, 0)
        return _Chunk(encoded, after)

    def _read(self, epoch: int, segment: int, window: int, pieces: Sequence[Piece]) -> _Window:
        if self._window is None or self._window[0] != (epoch, segment, window):
            rows = self._feed.read(pieces)
            shuffled = rows.take(self._order.row_order(epoch, segment, self.lane, window, rows.num_rows))
            self._window = (
                (epoch, segment, window),
                _Window(shuffled, np.cumsum(self._feed.sizes(shuffled))),
            )
        return self._window[1]


class _Chunk(NamedTuple):
    encoded: Encoded
    then: tuple[int, int, int, int]


def expected_samples(step: int, lane: int, *, global_batch: int, lanes: int) -> int:
    """Samples a lane has given after a step: the checksum of its cursor."""
    return max(0, -(-(step * global_batch - lane) // lanes))
