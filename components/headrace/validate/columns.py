"""What other columns say of the documents: languages, scores and the like, of the rows that were looked at."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headrace.errors import HeadraceError
from headrace.stream.files import is_remote, open_file
from headrace.stream.jsonl import BLOCK_BYTES, parse
from headrace.stream.manifest import Manifest, ManifestFile, Part
from headrace.stream.parquet import is_text
from headrace.stream.retry import retrying
from headrace.validate.profile import leaders
from headrace.validate.seen import Seen
from headrace.validate.shown import LARGEST_CODE, is_code, is_name, is_personal

log = logging.getLogger(__name__)

MOST_COLUMNS = 12
SMALL_SHARE, SMALL_BYTES = 0.1, 256 << 10
"""Columns are read while they are stored in so many bytes of a row group, or in this share of its text's."""
MOST_VALUES = 50
"""A column of text with more different values is no category; nor is one whose values hardly repeat."""
REPEATS = 4
SHOWN_VALUES = 12
CODES = 0.75
"""A category of which a smaller share of values are codes shows none."""
DEADLINE_S = 60.0
"""Seconds that failing reads are tried for before no columns are described: nothing is trained on them."""
BINS = 24
LARGEST = 1e300
"""Numbers that are larger stand for "none", and differences of them are none."""


def describable(manifest: Manifest, deadline_s: float = DEADLINE_S) -> tuple[str, ...]:
    """Columns beside the text that are small and may be categories or numbers, by the first file with rows.

    None where that file cannot be read any more: whoever needs it will say so.
    """
    for part in manifest.parts:
        for file in part.files:
            look = _look_at(file, part) if file.row_groups else None
            if look is not None:
                try:
                    return retrying(look, f"columns of {file.uri}", deadline_s, remote=is_remote(file.uri))
                except (HeadraceError, pa.ArrowException) as error:
                    log.warning("no columns are described: %s of %s", type(error).__name__, file.path)
                    return ()
    return ()


def _look_at(file: ManifestFile, part: Part) -> Callable[[], tuple[str, ...]] | None:
    if part.format == "parquet":
        return partial(_of_parquet, file, part.text_column)
    if part.format == "json" and not file.uri.endswith((".gz", ".zst")):
        return partial(_of_lines, file, part)
    return None


def _of_parquet(file: ManifestFile, text: str) -> tuple[str, ...]:
    with open_file(file.uri, file.size) as raw, closing(pq.ParquetFile(raw, pre_buffer=False)) as parquet:
        kinds_of = {f.name: f.type for f in parquet.schema_arrow}
        group = max((parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)), key=_rows)
        sizes = {}
        for i in range(group.num_columns):
            chunk = group.column(i)
            sizes[chunk.path_in_schema] = chunk.total_compressed_size
    left = max(SMALL_BYTES, int(SMALL_SHARE * sizes.get(text, 0)))
    found: list[str] = []
    for name, size in sorted(sizes.items(), key=lambda item: item[1]):
        left -= size
        if left < 0 or len(found) == MOST_COLUMNS:
            break
        if name not in (text, "text") and name in kinds_of and is_name(name) and _kind(kinds_of[name]):
            found.append(name)
    return tuple(n for n in kinds_of if n in found)


def _rows(group: Any) -> int:
    return int(group.num_rows)


def _of_lines(file: ManifestFile, part: Part) -> tuple[str, ...]:
    import pyarrow.json as pj

    with open_file(file.uri, file.size) as raw:
        block = raw.read(BLOCK_BYTES)
    block = block[: block.rfind(b"\n") + 1] or block
    try:
        schema = pj.read_json(
            pa.BufferReader(block), read_options=pj.ReadOptions(use_threads=False, block_size=len(block) + 1)
        ).schema
        names = [
            f.name for f in schema if f.name not in (part.text_column, "text") and is_name(f.name) and _kind(f.type)
        ]
        parse(block, [part.text_column, *names])
    except (
        pa.ArrowInvalid,
        ValueError,
    ):  # columns of mixed types: nothing to describe, and nothing that training reads
        return ()
    return tuple(names[:MOST_COLUMNS])


def _kind(of: pa.DataType) -> str:
    """What values of an Arrow type are described as: text, flag or number; empty where they are none of these."""
    if is_text(of):
        return "text"
    if pa.types.is_boolean(of):
        return "flag"
    return "number" if pa.types.is_integer(of) or pa.types.is_floating(of) else ""


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
        kind = _kind(values.type)
        if not kind or self._kind not in (None, kind):
            self._give_up()
            return
        self._kind = kind
        if kind == "number":
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
    """All columns that are described, from rows that were looked at."""

    def __init__(self, names: Sequence[str]) -> None:
        self.columns = {name: Column() for name in names}

    def look(self, seen: Seen) -> None:
        """Take these rows into account; a file may lack a column."""
        for name, column in self.columns.items():
            if name in seen.table.schema.names:
                column.add(seen.file, seen.table.column(name))

    def report(self) -> dict[str, Any]:
        """Each column that says something: shares of its commonest values, or percentiles and a histogram."""
        found = {}
        for name, column in self.columns.items():
            if said := described(name, column):
                found[name] = said
        return found


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
