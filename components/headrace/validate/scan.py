"""Rows chosen from the whole stream, measured: the only part of validation that reads documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headrace.errors import DamagedData
from headrace.stream.documents import Reader
from headrace.stream.filters import Filter, first_refusal
from headrace.stream.heldout import content_hash, is_blank
from headrace.stream.manifest import Manifest, places
from headrace.stream.order import permutation
from headrace.stream.tokenizer import Encoder
from headrace.stream.unfit import Unfit
from headrace.validate import signs

ROW_GROUPS_SPREAD = 64
"""A sample is taken from at least so many row groups, where there are so many."""
EXAMPLES = 5
_ENCODED_AT_ONCE = 4 << 20


class Portion(NamedTuple):
    """Rows of one row group to look at: `take` of its `rows`, evenly spaced."""

    file: int
    row_group: int
    rows: int
    take: int

    def numbers(self) -> NDArray[np.int64]:
        """The row numbers: int64 [take], ascending."""
        return np.arange(self.take, dtype=np.int64) * self.rows // self.take


@dataclass(frozen=True, kw_only=True)
class GroupSums:
    """What the rows looked at in one row group hold. text_bytes: of the whole group, as its footer states them."""

    rows: int
    looked: int
    text_bytes: int
    documents: int
    tokens: int
    """End-of-text tokens included, one a document."""


@dataclass(frozen=True)
class Unreadable:
    """A row group whose footer is well and whose data is not. path: of the file."""

    path: str
    row_group: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}, row group {self.row_group}: {self.message}"


class DamagedRows(Exception):
    """A row group could not be read, and reading it again is no use."""

    def __init__(self, place: Unreadable) -> None:
        super().__init__(str(place))
        self.place = place


class CarefulReader(Reader):
    """A reader that says where data is damaged: DamagedRows with the file and the row group."""

    def batches(self, file: int, row_group: int, start: int = 0) -> Iterator[pa.Table]:
        """One row group's wanted columns front to back."""
        try:
            yield from super().batches(file, row_group, start)
        except (DamagedData, Unfit) as error:
            raise DamagedRows(_damaged(self, file, row_group, error)) from error


def _damaged(reader: Reader, file: int, row_group: int, error: Exception) -> Unreadable:
    text = " ".join(str(error.__cause__ or error).split()).rstrip(".")
    return Unreadable(reader.manifest.label(file), row_group, text)


@dataclass
class Scan:
    """The rows looked at. The arrays hold one value a document, in the order of reading."""

    complete: bool
    rows: int = 0
    bytes: int = 0
    nulls: int = 0
    blanks: int = 0
    duplicates: int = 0
    damaged: dict[str, int] = field(default_factory=lambda: {"control": 0, "replacement": 0, "mojibake": 0, "any": 0})
    examples: dict[str, list[str]] = field(default_factory=dict)
    filtered: dict[str, int] = field(default_factory=dict)
    """Rows that a filter refuses, by the filter."""
    unreadable: list[Unreadable] = field(default_factory=list)
    groups: list[GroupSums] = field(default_factory=list)
    tokens: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))

    def note(self, kind: str, place: str) -> None:
        """Remember where a kind of row was seen, the first few times."""
        seen = self.examples.setdefault(kind, [])
        if len(seen) < EXAMPLES:
            seen.append(place)


def spread(manifest: Manifest, *, rows: int, text_bytes: int, seed: int = 0) -> tuple[list[Portion], bool]:
    """What to look at within the budget, and whether that is everything: then in manifest order.

    A sample comes from row groups in a seeded random order, evenly spaced rows of each, in proportion to its size.
    """
    every = [(f, g, manifest.files[f].known[g].rows) for f, g in places(manifest)]
    every = [(f, g, n) for f, g, n in every if n]
    if manifest.rows <= rows and manifest.text_bytes <= text_bytes:
        return [Portion(f, g, n, n) for f, g, n in every], True
    wanted = max(1, min(rows, text_bytes * manifest.rows // max(1, manifest.text_bytes)))
    chosen: list[tuple[int, int, int]] = []
    there = 0
    for i in permutation(len(every), seed):
        if there >= wanted and len(chosen) >= ROW_GROUPS_SPREAD:
            break
        chosen.append(every[i])
        there += every[i][2]
    # Rows of each in proportion to its size, so that every row has the same chance.
    ends = np.cumsum([n for _, _, n in chosen]) * wanted // there
    takes = np.diff(ends, prepend=0)
    return [Portion(f, g, n, int(take)) for (f, g, n), take in zip(chosen, takes, strict=True) if take], False


def scan(
    reader: Reader,
    encoder: Encoder,
    portions: Sequence[Portion],
    filters: Sequence[Filter] = (),
    *,
    complete: bool,
    text_bytes: int,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Read and measure the portions, until `text_bytes` were looked at if they are a sample."""
    found = Scan(complete)
    seen: set[int] = set()
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]] = []
    total = sum(p.take for p in portions)
    done = 0
    for portion in portions:
        if not complete and found.bytes >= text_bytes:
            break
        read = _read(reader, portion)
        if isinstance(read, Unreadable):
            found.unreadable.append(read)
        else:
            parts.append(_measure(found, reader.manifest, portion, read, encoder, filters, seen))
        done += portion.take
        if progress is not None:
            progress(done, total)
    if parts:
        tokens, sizes, hashes = zip(*parts, strict=True)
        found.tokens, found.sizes = np.concatenate(tokens), np.concatenate(sizes)
        found.hashes = np.concatenate(hashes)
    return found


def _read(reader: Reader, portion: Portion) -> pa.Table | Unreadable:
    """The rows of a portion, without holding a large row group."""
    numbers, found, first = portion.numbers(), [], 0
    try:
        for table in reader.batches(portion.file, portion.row_group):
            inside = numbers[(numbers >= first) & (numbers < first + table.num_rows)] - first
            found.append(table if len(inside) == table.num_rows else table.take(inside))
            first += table.num_rows
    except (DamagedData, Unfit) as error:
        return _damaged(reader, portion.file, portion.row_group, error)
    return pa.concat_tables(found)


def _measure(
    found: Scan,
    manifest: Manifest,
    portion: Portion,
    rows: pa.Table,
    encoder: Encoder,
    filters: Sequence[Filter],
    seen: set[int],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]:
    path = manifest.label(portion.file)
    documents: list[str] = []
    hashes: list[int] = []
    refused = first_refusal(filters, rows).tolist()
    for number, text, why in zip(portion.numbers(), rows.column(0).to_pylist(), refused, strict=True):
        place = f"{path}, row group {portion.row_group}, row {number}"
        found.rows += 1
        if text is None:
            found.nulls += 1
            found.note("null", place)
        elif is_blank(text):
            found.blanks += 1
            found.note("blank", place)
        elif why:
            name = str(filters[why - 1])
            found.filtered[name] = found.filtered.get(name, 0) + 1
        else:
            digest = content_hash(text)
            if digest in seen:
                found.duplicates += 1
                found.note("duplicate", place)
            seen.add(digest)
            documents.append(text)
            hashes.append(digest)
            _look_for_damage(found, text, place)
    sizes = np.array([len(d.encode("utf-8", "surrogatepass")) for d in documents], np.int64)
    tokens = lengths(encoder, documents, sizes)
    found.bytes += int(sizes.sum())
    found.groups.append(
        GroupSums(
            rows=portion.rows,
            looked=portion.take,
            text_bytes=manifest.files[portion.file].known[portion.row_group].text_bytes,
            documents=int((tokens > 0).sum()),
            tokens=int(tokens.sum() + (tokens > 0).sum()),
        )
    )
    return tokens, sizes, np.array(hashes, np.uint64)


def _look_for_damage(found: Scan, text: str, place: str) -> None:
    damage = {
        "control": signs.has_control(text),
        "replacement": signs.has_replacement(text),
        "mojibake": signs.has_mojibake(text),
    }
    for kind, there in damage.items():
        if there:
            found.damaged[kind] += 1
            found.note(kind, place)
    found.damaged["any"] += any(damage.values())


def lengths(encoder: Encoder, documents: Sequence[str], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens of each document, without the end-of-text token: int64 [documents]."""
    parts: list[NDArray[np.int64]] = []
    start = 0
    while start < len(documents):
        # A few documents at a time: the ids of all rows of a large row group would not fit.
        end = start + 1
        size = int(sizes[start])
        while end < len(documents) and size + int(sizes[end]) <= _ENCODED_AT_ONCE:
            size += int(sizes[end])
            end += 1
        parts.append(np.diff(encoder.encode(documents[start:end])[1]))
        start = end
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
