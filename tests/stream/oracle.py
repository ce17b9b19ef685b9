"""The order worked out token by token from its definition, and datasets in memory to try it on.

Only the keyed permutation is shared with the code under test. Lines and runs are worked out on lists of single rows;
windows are taken from the code, and `check_windows` holds them against the rows they must cover.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.stream.feed import with_ends
from headrace.stream.manifest import Manifest, ManifestFile, Part, RowGroup, RowGroups
from headrace.stream.order import Piece, permutation
from headrace.stream.plan import Plan
from headrace.stream.shards import Shards
from headrace.stream.windows import Encoded, ReadWindow

EOS = 999_999
Row = tuple[int, int, int]  # file, row group, row
Place = tuple[int, Row, int]  # epoch, row, token


@dataclass(frozen=True)
class Data:
    """Tokens of every row, without EOS; a row without tokens is dropped. sizes: bytes of each row group."""

    files: tuple[tuple[tuple[int, ...], ...], ...]  # tokens of each row of each row group of each file
    sizes: tuple[tuple[int, ...], ...]

    @property
    def manifest(self) -> Manifest:
        files = tuple(
            ManifestFile(f"f{i}", f"f{i}", 1, "", "", RowGroups(list(map(RowGroup, map(len, groups), self.sizes[i]))))
            for i, groups in enumerate(self.files)
        )
        return Manifest((Part(name="memory", files=files),))

    def rows(self) -> list[Row]:
        return [
            (i, j, k)
            for i, groups in enumerate(self.files)
            for j, group in enumerate(groups)
            for k in range(len(group))
        ]

    def tokens(self, row: Row) -> int:
        """Tokens of a row, its EOS included; 0 for a dropped one."""
        count = self.files[row[0]][row[1]][row[2]]
        return count + 1 if count else 0


class MemoryFeed:
    """Rows of `Data` as a lane reads them. Token t of row r has the id 1000·r + t, so that each is known by its id."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self._numbers = {row: n for n, row in enumerate(data.rows())}
        self._counts = np.array([data.files[i][j][k] for i, j, k in data.rows()], np.int64)
        self.encoded: list[int] = []

    def lane(self) -> ReadWindow:
        def read(pieces: Sequence[Piece], order: NDArray[np.int64]) -> MemoryWindow:
            numbers = [self._numbers[p.file, p.row_group, r] for p in pieces for r in range(p.start, p.end)]
            return MemoryWindow(self, np.array(numbers, np.int64)[order])

        return read

    def encode(self, numbers: NDArray[np.int64]) -> Encoded:
        """The tokens of some rows, by their numbers."""
        self.encoded += [int(n) for n in numbers if self._counts[n]]
        counts = self._counts[numbers]
        ids = [1000 * n + t for n, c in zip(numbers, counts, strict=True) for t in range(c)]
        return with_ends(np.array(ids, np.int32), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), EOS)

    def ids(self, places: Sequence[Place], data: Data) -> list[int]:
        """What the tokens at these places look like."""
        return [EOS if token == data.tokens(row) - 1 else 1000 * self._numbers[row] + token for _, row, token in places]


class MemoryWindow:
    """Rows of which three or so are encoded at once."""

    def __init__(self, feed: MemoryFeed, numbers: NDArray[np.int64]) -> None:
        self._feed, self._numbers = feed, numbers
        self.upto: NDArray[np.int64] = np.cumsum(np.full(len(numbers), 20_000, np.int64))

    def encode(self, start: int, stop: int) -> Encoded:
        return self._feed.encode(self._numbers[start:stop])


def make_plan(**changed: Any) -> Plan:
    given = {
        "manifest_hash": "", "text_column": "text", "tokenizer_hash": "", "eos_id": EOS, "heldout": "", "seed": 0,
        "block": 4, "grouped": True, "lanes": 1, "global_batch": 1,
    }  # fmt: skip
    return Plan(**{**given, **changed})


def runs(data: Data, plan: Plan, epoch: int, segment: int) -> list[list[Row]]:
    """The V runs of a segment's line, as rows."""
    order = permutation(len(data.files), plan.seed, epoch)
    chosen = sorted(int(f) for f in order[segment * plan.segment_files : (segment + 1) * plan.segment_files])
    units = [
        (f, g, len(rows), max(1, data.sizes[f][g])) for f in chosen for g, rows in enumerate(data.files[f]) if rows
    ]
    units = [units[i] for i in permutation(len(units), plan.seed, epoch, segment)]
    line = [(f, g, r) for f, g, rows, _ in units for r in range(rows)]
    total = sum(size for *_, size in units)
    cuts = []
    for k in range(plan.lanes):
        target, before, rows_before = k * total // plan.lanes, 0, 0
        for *_, rows, size in units:
            if target < before + size:
                cuts.append(rows_before + (target - before) * rows // size)
                break
            before, rows_before = before + size, rows_before + rows
        else:
            cuts.append(len(line))
    return [line[a:b] for a, b in zip(cuts, [*cuts[1:], len(line)], strict=True)]


def segments(data: Data, plan: Plan) -> int:
    return max(1, -(-len(data.files) // plan.segment_files))


def lane_places(data: Data, plan: Plan, lane: int, epochs: int) -> Iterator[Place]:
    """Every token of a lane in order."""
    order = plan.orders(Shards(data.manifest))[0]
    for epoch in range(epochs):
        for segment in range(segments(data, plan)):
            rest = runs(data, plan, epoch, segment)[(lane + epoch + segment) % plan.lanes]
            for w, window in enumerate(order.windows(epoch, segment, lane)):
                count = sum(p.end - p.start for p in window)
                rows, rest = rest[:count], rest[count:]
                for i in permutation(count, plan.seed, epoch, segment, lane, w):
                    for token in range(data.tokens(rows[i])):
                        yield epoch, rows[i], token
            assert not rest, "a run's rows are not all in its windows"


def samples(data: Data, plan: Plan, lane: int, epochs: int) -> Iterator[list[Place]]:
    """The samples of a lane; the last of a finite lane may be short."""
    places = lane_places(data, plan, lane, epochs)
    while sample := list(islice(places, plan.block)):
        yield sample


@st.composite
def datasets(draw: st.DrawFn) -> Data:
    """A few files of row groups, empty ones and long and dropped documents among them; one document at least."""
    lengths = st.sampled_from([0, 0, 1, 2, 3, 5, 9, 30])
    group = st.lists(lengths, max_size=6).map(tuple)
    files = draw(st.lists(st.lists(group, max_size=4).map(tuple), min_size=1, max_size=5).map(tuple))
    if not any(c for groups in files for rows in groups for c in rows):
        files = (*files, ((7,),))
    sizes = tuple(tuple(draw(st.integers(0, 50)) for _ in groups) for groups in files)
    return Data(files, sizes)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    return make_plan(
        seed=draw(st.integers(0, 1 << 32)), block=draw(st.integers(2, 9)), lanes=draw(st.integers(1, 7)),
        global_batch=draw(st.integers(1, 9)), window_rows=draw(st.integers(1, 6)),
        window_bytes=draw(st.integers(1, 120)), segment_files=draw(st.integers(1, 4)),
    )  # fmt: skip
