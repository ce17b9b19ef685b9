"""What other columns say of the documents: languages, scores and the like, of the rows that were looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.validate.offers import MOST_COLUMNS, is_likely, kind, leaves
from headrace.validate.profile import leaders
from headrace.validate.seen import Seen
from headrace.validate.shown import LARGEST_CODE, is_code, is_personal

MOST_LEAVES = 64
"""Columns whose values are held, fields of objects counted one by one."""
MOST_VALUES = 50
"""A column of text with more different values is no category; nor is one whose values hardly repeat."""
REPEATS = 4
SHOWN_VALUES = 12
CODES = 0.75
"""A category of which a smaller share of values are codes shows none."""
BINS = 24
LARGEST = 1e300
"""Numbers that are larger stand for "none", and differences of them are none."""


class Column:
    """Values of one column by file.

    It is given up when its values turn out to be of different kinds, or of none; one of text also as no category.
    """

    def __init__(self) -> None:
        self.rows = self.nulls = 0
        self.words: dict[int, Counter[str]] = {}
        self.numbers: dict[int, list[NDArray[np.float64]]] = {}
        self._kind: str | None = None
        self._given_up = False
        self._different: set[str] = set()

    def add(self, file: int, values: pa.ChunkedArray) -> None:
        """Take some values into account."""
        self.rows += len(values)
        self.nulls += values.null_count
        if self._given_up or values.null_count == len(values):
            return
        found_kind = kind(values.type)
        if not found_kind or self._kind not in (None, found_kind):
            self._give_up()
            return
        self._kind = found_kind
        if found_kind == "number":
            numbers = values.cast(pa.float64(), safe=False).drop_null().to_numpy()
            self.numbers.setdefault(file, []).append(numbers[np.abs(numbers) < LARGEST])
            return
        counts = pc.value_counts(values.cast(pa.large_string()).drop_null()).to_pylist()
        found = self.words.setdefault(file, Counter())
        found.update({c["values"]: c["counts"] for c in counts})
        self._different.update(c["values"] for c in counts)
        if len(self._different) > MOST_VALUES:
            self._give_up()

    def _give_up(self) -> None:
        self._given_up, self.words, self.numbers, self._different = True, {}, {}, set()

    @property
    def categories(self) -> Counter[str]:
        """How often each value of a category occurs; empty where it is none."""
        total: Counter[str] = sum(self.words.values(), Counter())
        return total if total.total() >= REPEATS * len(total) else Counter()

    def values_of(self) -> dict[int, NDArray[np.float64]]:
        """The numbers of each file, ascending."""
        return {f: np.sort(np.concatenate(n)) for f, n in self.numbers.items() if sum(map(len, n))}


class Columns:
    """All columns that are described, fields of objects among them, from rows that were looked at."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self.columns: dict[str, Column] = {}

    def look(self, seen: Seen) -> None:
        """Take these rows into account; a file may lack a column."""
        for name in self._names:
            if name in seen.table.schema.names:
                for path, values in leaves(name, seen.table.column(name)):
                    if path in self.columns or len(self.columns) < MOST_LEAVES:
                        self.columns.setdefault(path, Column()).add(seen.file, values)

    def report(self) -> dict[str, Any]:
        """Each column that says something: shares of its commonest values, or percentiles and a histogram."""
        found = {path: said for path, column in self.columns.items() if (said := described(path, column))}
        mixed = {p for p in found for q in found if q.startswith(f"{p}.")}  # an object in some files, none in others
        found = {p: said for p, said in found.items() if not any(p == m or p.startswith(f"{m}.") for m in mixed)}
        first = sorted(found, key=lambda path: not is_likely(path))[:MOST_COLUMNS]
        return {path: said for path, said in found.items() if path in first}


def described(name: str, column: Column) -> dict[str, Any]:
    """What the report says of a column; empty where that is nothing."""
    rows = {"rows": column.rows, "nulls": column.nulls}
    if categories := column.categories:
        return {**rows, "kind": "category", **_shown(name, categories)}
    values = column.values_of()
    if not values:
        return {}
    every = np.concatenate(list(values.values()))
    if is_personal(name) and np.abs(every).max() >= LARGEST_CODE:
        return {}
    ends = np.percentile(every, [0, 0.5, 5, 50, 95, 99.5, 100]).tolist()
    low, high = (ends[1], ends[5]) if ends[1] < ends[5] else (ends[0], ends[6])
    counts, edges = np.histogram(np.clip(every, low, high), _edges(low, high))
    return {
        **rows, "kind": "number", "least": ends[0], "p5": ends[2], "p50": ends[3], "p95": ends[4], "most": ends[6],
        "edges": edges.tolist(), "counts": counts.tolist(),
    }  # fmt: skip


def _edges(low: float, high: float) -> NDArray[np.float64]:
    """Edges of bins from the lowest to the highest number, wider where floats could not tell them apart."""
    least = 2 * BINS * float(np.spacing(max(abs(low), abs(high))))
    if high - low < least:
        low, high = low - max(0.5, least), high + max(0.5, least)
    return np.linspace(low, high, BINS + 1)


def _shown(name: str, categories: Counter[str]) -> dict[str, Any]:
    """The commonest values that are codes, none where too many are not; the others are counted."""
    codes = [] if is_personal(name) else [v for v in categories if is_code(v)]
    if len(codes) < CODES * len(categories):
        codes = []
    shown = Counter({v: categories[v] for v in codes}).most_common(SHOWN_VALUES)
    return {
        "values": [list(pair) for pair in shown],
        "different": len(categories),
        "hidden": len(categories) - len(codes),
        "other": categories.total() - sum(n for _, n in shown),
    }


def grouped(column: Column, least: int, limit: float) -> list[list[int]]:
    """Files with at least so many values in groups that differ by `limit` or more, 0 … 1.

    The measure is total variation for categories, and Kolmogorov and Smirnov's statistic for numbers.
    """
    if column.categories:
        return leaders({f: c for f, c in column.words.items() if c.total() >= least}, variation, limit)
    return leaders({f: v for f, v in column.values_of().items() if len(v) >= least}, largest_gap, limit)


def variation(one: Counter[str], other: Counter[str]) -> float:
    """Half the sum of the differences of shares: 0 the same, 1 nothing in common."""
    a, b = one.total(), other.total()
    return sum(abs(one[k] / a - other[k] / b) for k in one | other) / 2


def largest_gap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The largest difference of the shares of sorted values up to any number: 0 the same, 1 apart."""
    every = np.concatenate([one, other])
    shares = (np.searchsorted(v, every, "right") / len(v) for v in (one, other))
    return float(np.abs(next(shares) - next(shares)).max())
