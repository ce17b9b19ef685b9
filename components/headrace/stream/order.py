"""The order of rows, in integers alone: a pure function of the manifest's numbers, a seed and a few constants.

An epoch's files are permuted and cut into segments. A segment's row groups are permuted and laid on a line whose
length is bytes of text; each lane gets one of V equal runs of it. A run is cut into windows, and rows are permuted
within a window. Everything is integer arithmetic on keyed hashes, because the streams of random generators are not
promised to stay the same between versions of a library.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ORDER_VERSION = 1
"""Changes whenever the same plan would give other tokens; checkpoints of another version are refused."""
WINDOW_ROWS = 1_000
WINDOW_BYTES = 2 << 20
SEGMENT_FILES = 128
COUNTED_FILES = 16
"""Files of a segment where their rows are known only after reading all of them."""

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(x: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014) on one 64-bit integer."""
    x &= MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def _mix_array(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def key(*parts: int) -> int:
    """One 64-bit key of several integers; their order counts."""
    k = GOLDEN
    for part in parts:
        k = mix(k ^ mix(part + GOLDEN))
    return k


def permutation(n: int, *parts: int) -> NDArray[np.int64]:
    """0 … n−1 ordered by a keyed hash, ties by number: int64 [n], the same on every machine and version."""
    numbers = np.arange(n, dtype=np.uint64) * np.uint64(GOLDEN) + np.uint64(key(*parts))
    return np.argsort(_mix_array(numbers), kind="stable").astype(np.int64)


class Unit(NamedTuple):
    """A row group as the order sees it. size: bytes of its text, at least 1."""

    file: int
    row_group: int
    rows: int
    size: int


class Piece(NamedTuple):
    """Rows start … end−1 of one row group."""

    file: int
    row_group: int
    start: int
    end: int
    lanes: int = 1
    """Lanes that read from this row group."""
    last: bool = False
    """Whether the lane is through with the row group after it."""


Window = tuple[Piece, ...]


@dataclass(frozen=True)
class Line:
    """A segment's permuted row groups and the V + 1 cuts of it, each (index of the unit, row in it)."""

    units: tuple[Unit, ...]
    cuts: tuple[tuple[int, int], ...]

    @cached_property
    def sharers(self) -> Counter[int]:
        """How many cuts lie within a unit, by its index: one lane more than that reads from it."""
        return Counter(i for i, row in self.cuts if row)


def cut_line(units: Sequence[Unit], lanes: int) -> Line:
    """Cut the line into equal runs of bytes, each cut at a row: row = (T − C_i)·rows_i // size_i."""
    if not units:
        return Line((), ((0, 0),) * (lanes + 1))
    ends = np.concatenate([[0], np.cumsum([u.size for u in units], dtype=np.int64)])
    total = int(ends[-1])
    cuts = []
    for k in range(lanes):
        target = k * total // lanes
        i = int(np.searchsorted(ends, target, "right")) - 1
        cuts.append((i, (target - int(ends[i])) * units[i].rows // units[i].size))
    return Line(tuple(units), (*cuts, (len(units), 0)))


def cut_windows(line: Line, run: int, max_rows: int, max_bytes: int) -> tuple[Window, ...]:
    """One run as windows of at most `max_rows` rows and `max_bytes` of text, but always at least a row."""
    (i, a), (last, last_row) = line.cuts[run], line.cuts[run + 1]
    windows: list[Window] = []
    current: list[Piece] = []
    rows = size = 0
    while (i, a) < (last, last_row):
        unit = line.units[i]
        end = last_row if i == last else unit.rows
        take = min(end - a, max_rows - rows, (max_bytes - size) * unit.rows // unit.size)
        if take <= 0 and current:
            windows.append(tuple(current))
            current, rows, size = [], 0, 0
            continue
        take = max(take, 1)
        current.append(Piece(unit.file, unit.row_group, a, a + take, 1 + line.sharers[i], a + take == end))
        rows += take
        size += take * unit.size // unit.rows
        a += take
        if a >= unit.rows:
            i, a = i + 1, 0
    if current:
        windows.append(tuple(current))
    return tuple(windows)


class Order:
    """The windows of every (epoch, segment, lane) and the permutation of rows in each.

    `groups(files)` gives, for each of some files, its row groups as (rows, bytes of text, …) in file order; it is asked
    a segment at a time, so that a long listing does not need every footer before the first step, and `ahead` is told
    which files it will be asked for next. first_file: what the files of this order are counted from.
    """

    def __init__(
        self,
        files: int,
        groups: Callable[[Sequence[int]], Sequence[Sequence[Sequence[int]]]],
        *,
        seed: int,
        lanes: int,
        first_file: int = 0,
        ahead: Callable[[Sequence[int]], None] = lambda _: None,
        window_rows: int = WINDOW_ROWS,
        window_bytes: int = WINDOW_BYTES,
        segment_files: int = SEGMENT_FILES,
    ) -> None:
        self.files, self.seed, self.lanes = files, seed, lanes
        self._groups, self._ahead, self._first_file = groups, ahead, first_file
        self._max_rows, self._max_bytes, self._segment_files = window_rows, window_bytes, segment_files
        self._segment_order = lru_cache(maxsize=16)(self._permuted_files)
        self._cutting = threading.Lock()
        self._cut = lru_cache(maxsize=4)(self._cut_segment)
        # Every lane of this process may be in a window of its own.
        self.windows = lru_cache(maxsize=4 * lanes + 16)(self._windows)

    @property
    def segments(self) -> int:
        """Segments in an epoch, at least 1."""
        return max(1, -(-self.files // self._segment_files))

    def _permuted_files(self, epoch: int) -> NDArray[np.int64]:
        return permutation(self.files, self.seed, epoch)

    def _files_of(self, epoch: int, segment: int) -> list[int]:
        chosen = self._segment_order(epoch)[segment * self._segment_files : (segment + 1) * self._segment_files]
        return [self._first_file + int(f) for f in np.sort(chosen)]

    def _cut_segment(self, epoch: int, segment: int) -> Line:
        files = self._files_of(epoch, segment)
        units = [
            Unit(file, index, group[0], max(1, group[1]))
            for file, groups in zip(files, self._groups(files), strict=True)
            for index, group in enumerate(groups)
            if group[0] > 0
        ]
        self._ahead(self._files_of(*((epoch, segment + 1) if segment + 1 < self.segments else (epoch + 1, 0))))
        shuffled = permutation(len(units), self.seed, epoch, segment)
        return cut_line([units[i] for i in shuffled], self.lanes)

    def _line(self, epoch: int, segment: int) -> Line:
        with self._cutting:  # of many threads that need it at once, one does the work
            return self._cut(epoch, segment)

    def _windows(self, epoch: int, segment: int, lane: int) -> tuple[Window, ...]:
        run = (lane + epoch + segment) % self.lanes
        return cut_windows(self._line(epoch, segment), run, self._max_rows, self._max_bytes)

    def run_bytes(self, epoch: int, segment: int, lane: int) -> int:
        """Bytes of text, about, that a lane reads in a segment."""
        sizes = {(u.file, u.row_group): (u.size, u.rows) for u in self._line(epoch, segment).units}
        pieces = (p for window in self._windows(epoch, segment, lane) for p in window)
        return sum((p.end - p.start) * size // rows for p in pieces for size, rows in (sizes[p[:2]],))

    def row_order(self, epoch: int, segment: int, lane: int, window: int, rows: int) -> NDArray[np.int64]:
        """The order in which the rows of a window are read: int64 [rows]."""
        return permutation(rows, self.seed, epoch, segment, lane, window)

    def row_at(self, lane: int, epoch: int, segment: int, window: int, row: int) -> tuple[int, int, int]:
        """File, row group and row of what stands at a place of a window's order."""
        pieces = self.windows(epoch, segment, lane)[window]
        counts = [p.end - p.start for p in pieces]
        number = int(self.row_order(epoch, segment, lane, window, sum(counts))[row])
        for piece, count in zip(pieces, counts, strict=True):
            if number < count:
                return piece.file, piece.row_group, piece.start + number
            number -= count
        raise IndexError(f"a window of {sum(counts)} rows has no row {row}")


def tail(orders: Sequence[Order]) -> float:
    """How much longer than the mean the slowest lane takes for its first segment, by text bytes: 1 is as long."""
    worst = 1.0
    for order in orders:
        sizes = [order.run_bytes(0, 0, lane) for lane in range(order.lanes)]
        worst = max(worst, max(sizes) * len(sizes) / max(1, sum(sizes)))
    return worst


def default_lanes(*, global_batch: int, block: int, rows: int, text_bytes: int, largest_group: int) -> int:
    """Lanes V for a dataset, never from the world size (order.md, item 10; blocks are taken as 4 bytes a token)."""
    memory = (1 << 30) // (2 * WINDOW_BYTES + min(largest_group, 12 << 20))
    blocks = text_bytes // (4 * block)
    top = min(max(global_batch, 64), 256, max(memory, 1), max(blocks // 8, 1), max(rows // 4, 1))
    fitting = [v for v in range(1, top + 1) if global_batch % v == 0 or v % global_batch == 0]
    best = max(fitting)
    return best if 2 * best >= min(64, top) else top


def exact_world_sizes(global_batch: int, lanes: int) -> list[int]:
    """World sizes that need no filler: the divisors of gcd(V, GB)."""
    g = gcd(lanes, global_batch)
    return [w for w in range(1, g + 1) if g % w == 0]


def share(step: int, *, global_batch: int, lanes: int, world_size: int, rank: int) -> list[int]:
    """Global sample numbers that a rank trains in a step (from 1), ascending."""
    first = (step - 1) * global_batch
    if world_size == 1:
        return list(range(first, first + global_batch))
    return [g for g in range(first, first + global_batch) if g % lanes % world_size == rank]


def largest_share(*, global_batch: int, lanes: int, world_size: int) -> int:
    """The most samples any rank has in any step."""
    whole, rest = divmod(global_batch, lanes)
    per_rank = np.bincount(np.arange(lanes) % world_size, minlength=world_size) * whole
    best = 0
    for offset in range(0, lanes, gcd(global_batch, lanes)):
        extra = np.bincount((offset + np.arange(rest)) % lanes % world_size, minlength=world_size)
        best = max(best, int((per_rank + extra).max()))
    return best
