"""What ranks ask of a source, and when: the stream's own order, walked without reading a byte.

`Order` cuts and permutes as in a training. What follows from it is modelled here after `stream.windows` (how far a lane
reads ahead), `stream.documents` (which row groups are kept, shared, spilled) and `stream.shards` (which files stay
open); `tests/benchmarks/test_scaling.py` holds the model against requests that a server counted.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal, NamedTuple

import numpy as np

from headrace.stream.documents import CACHED_BYTES, SPILLED_LANES, WHOLE_BYTES
from headrace.stream.files import TAIL_BYTES
from headrace.stream.manifest import RowGroup
from headrace.stream.order import SEGMENT_FILES, Order, Piece, permutation
from headrace.stream.parquet import BUFFER_BYTES
from headrace.stream.shards import OPEN_FILES

GROUPS_KEPT = 4 * SEGMENT_FILES
"""Files whose row groups `Shards` remembers where the manifest does not hold them."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A dataset as its server sees it.

    groups: row groups by file. chunk: bytes of a row group's text as it is stored. footer: bytes of a file's footer,
    length and magic too. tokens: what a piece gives. known: whether the manifest holds the row groups.
    """

    groups: Sequence[Sequence[RowGroup]]
    chunk: Callable[[int, int], int]
    footer: Callable[[int], int]
    tokens: Callable[[Piece], float]
    known: bool

    def order(self, *, seed: int, lanes: int, **how: Any) -> Order:
        """The order that a plan of this seed and these lanes has."""
        return Order(len(self.groups), lambda files: [self.groups[f] for f in files], seed=seed, lanes=lanes, **how)


class Read(NamedTuple):
    """Something that is asked of the source when a lane has used `at` tokens. size: bytes."""

    at: float
    kind: Literal["footer", "text"]
    file: int
    requests: int
    size: int


class _Wanted(NamedTuple):
    at: float
    lane: int
    key: tuple[int, int, int]
    pieces: tuple[Piece, ...]


def lane_windows(
    order: Order, source: Source, lane: int, *, depth: int, start: float = 0.0, epochs: int | None = None
) -> Iterator[_Wanted]:
    """A lane's windows from the one at token `start` on, each wanted when the one `depth` before it is begun."""
    begins: list[float] = []
    used, epoch, segment = 0.0, 0, 0
    while epoch != epochs:
        for number, pieces in enumerate(order.windows(epoch, segment, lane)):
            size = sum(source.tokens(p) for p in pieces)
            if used + size > start:
                begins.append(max(start, used))
                yield _Wanted(begins[max(0, len(begins) - 1 - depth)], lane, (epoch, segment, number), pieces)
            used += size
        epoch, segment = (epoch, segment + 1) if segment + 1 < order.segments else (epoch + 1, 0)


class Rank:
    """What one rank asks of its source. node: what the ranks of its machine have spilled together."""

    def __init__(
        self, order: Order, source: Source, lanes: Sequence[int], *, depth: int, start: float = 0.0,
        epochs: int | None = None, segment_files: int = SEGMENT_FILES, node: set[tuple[int, int]] | None = None,
    ) -> None:  # fmt: skip
        self._epochs = epochs
        self._order, self._source, self._lanes, self._depth, self._start = order, source, lanes, depth, start
        self._segment_files, self._node = segment_files, set() if node is None else node
        self._open: OrderedDict[int, None] = OrderedDict()
        self._groups: OrderedDict[int, None] = OrderedDict()
        self._cut: set[tuple[int, int]] = set()
        self._held: dict[int, tuple[int, int]] = {}
        self._cache: OrderedDict[tuple[int, int], int] = OrderedDict()
        self.most_open = 0

    def reads(self, until: Mapping[int, float]) -> Iterator[Read]:
        """Everything that is asked until each lane has used so many tokens, in the order of time."""
        how: Any = {"depth": self._depth, "start": self._start, "epochs": self._epochs}
        streams = [
            takewhile(lambda w: w.at <= until[w.lane], lane_windows(self._order, self._source, lane, **how))
            for lane in self._lanes
        ]
        for wanted in heapq.merge(*streams, key=lambda w: w[:2]):
            yield from self._segment(wanted)
            for piece in wanted.pieces:
                yield from self._piece(wanted, piece)

    def _segment(self, wanted: _Wanted) -> Iterator[Read]:
        """Footers of a segment that is cut now, and of the next one."""
        epoch, segment, _ = wanted.key
        if self._source.known or (epoch, segment) in self._cut:
            return
        self._cut.add((epoch, segment))
        after = (epoch, segment + 1) if segment + 1 < self._order.segments else (epoch + 1, 0)
        for file in (*self._files(epoch, segment), *self._files(*after)):
            if file not in self._groups:
                self._groups[file] = None
                if len(self._groups) > GROUPS_KEPT:
                    self._groups.popitem(last=False)
                yield from self._opened(wanted.at, file)

    def _files(self, epoch: int, segment: int) -> list[int]:
        first = segment * self._segment_files
        order = permutation(self._order.files, self._order.seed, epoch)
        return [int(f) for f in np.sort(order[first : first + self._segment_files])]

    def _opened(self, at: float, file: int) -> Iterator[Read]:
        if file in self._open:
            self._open.move_to_end(file)
            return
        self._open[file] = None
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)
        self.most_open = max(self.most_open, len(self._open))
        footer = self._source.footer(file)
        # The end of the file first; a longer footer is then read again as a whole.
        yield Read(at, "footer", file, *((1, TAIL_BYTES) if footer <= TAIL_BYTES else (2, TAIL_BYTES + footer)))

    def _piece(self, wanted: _Wanted, piece: Piece) -> Iterator[Read]:
        place = (piece.file, piece.row_group)
        held = self._held.get(wanted.lane) == place
        if self._source.groups[piece.file][piece.row_group].text_bytes <= WHOLE_BYTES:
            yield from () if held else self._whole(wanted.at, piece)
        elif piece.lanes > SPILLED_LANES:
            if place not in self._node:
                self._node.add(place)
                yield from self._streamed(wanted.at, piece, 0, self._source.groups[piece.file][piece.row_group].rows)
        else:  # front to back: what lies before the lane's first row is read, too
            yield from self._streamed(wanted.at, piece, piece.start if held else 0, piece.end)
        if piece.last:
            self._held.pop(wanted.lane, None)
        else:
            self._held[wanted.lane] = place

    def _whole(self, at: float, piece: Piece) -> Iterator[Read]:
        place = (piece.file, piece.row_group)
        if piece.lanes > 1 and place in self._cache:
            self._cache.move_to_end(place)
            return
        yield from self._opened(at, piece.file)
        yield Read(at, "text", piece.file, 1, self._source.chunk(*place))
        if piece.lanes > 1:
            self._keep(place, self._source.groups[piece.file][piece.row_group].text_bytes)

    def _streamed(self, at: float, piece: Piece, start: int, end: int) -> Iterator[Read]:
        """Rows start … end−1 of a large row group, some bytes at a time."""
        size, rows = (
            self._source.chunk(piece.file, piece.row_group),
            self._source.groups[piece.file][piece.row_group].rows,
        )
        first, last = size * start // rows, size * end // rows
        if not start:
            yield from self._opened(at, piece.file)
        yield Read(at, "text", piece.file, -(-last // BUFFER_BYTES) + (-first // BUFFER_BYTES), last - first)

    def _keep(self, place: tuple[int, int], size: int) -> None:
        self._cache[place] = size
        while sum(self._cache.values()) > CACHED_BYTES and len(self._cache) > 1:
            self._cache.popitem(last=False)
