"""Rows of the dataset: whole row groups, large ones front to back, and the pieces of a lane one after another."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import xxhash

from headrace.stream.columns import asked, joined
from headrace.stream.manifest import Manifest
from headrace.stream.order import Piece
from headrace.stream.shards import Shards
from headrace.stream.spill import Spill

WHOLE_BYTES = 8 << 20
"""Row groups of so much text or less are read whole, larger ones front to back."""
STREAMED_BYTES = 256 << 10
"""Text read at once of a row group that is read front to back."""
CACHED_BYTES = 64 << 20
"""Row groups that several lanes share are read once while they fit in here."""
SPILLED_LANES = 2
"""A large row group that more lanes than this share is written to scratch once, instead of read by each."""


class Document(NamedTuple):
    """A row and where it lies; text is None where the column is null."""

    file: int
    row_group: int
    row: int
    text: str | None


class Reader:
    """Columns of row groups; many threads may read at once."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        columns: Sequence[str] | None = None,
        extra: Sequence[str] = (),
        deadline_s: float = 600.0,
        scratch: Path | None = None,
    ) -> None:
        self.manifest = manifest
        self.shards = Shards(manifest, columns=columns, extra=extra, deadline_s=deadline_s)
        self._names = list(map(str, columns or ("text", *extra)))
        what = (manifest.hash, asked(columns or ("text", *extra)))
        self._spill = Spill(scratch, xxhash.xxh3_64_hexdigest(repr(what).encode()))
        self._lock = threading.Lock()
        self._groups: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._reading: dict[tuple[int, int], threading.Lock] = {}
        self._cached = 0
        self.row_groups_read = 0

    def places(self) -> Iterator[tuple[int, int]]:
        """(file, row group) of every row group, in manifest order."""
        for file in range(len(self.manifest.files)):
            for row_group in range(len(self.shards.row_groups([file])[0])):
                yield file, row_group

    def table(self, file: int, row_group: int) -> pa.Table:
        """One row group's wanted columns, in row order, as many rows as the manifest counts."""
        key = (file, row_group)
        with self._lock:
            if key in self._groups:
                self._groups.move_to_end(key)
                return self._groups[key]
            turn = self._reading.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                if key in self._groups:
                    return self._groups[key]
            table = self._whole(file, row_group)
            with self._lock:
                self._reading.pop(key, None)
                self._keep(key, table)
        return table

    def batches(self, file: int, row_group: int, start: int = 0) -> Iterator[pa.Table]:
        """One row group's wanted columns front to back from a row on; a failing read is tried again where it stood."""
        rows, size = self.shards.row_groups([file])[0][row_group][:2]
        if size <= WHOLE_BYTES:
            yield self.table(file, row_group).slice(start)
            return
        self.row_groups_read += 1
        at = start
        source = _Rest(rows, max(1, rows * STREAMED_BYTES // max(1, size)), row_group)
        while at < rows:
            source.wanted = at
            table = self.shards.attempt(source.next, file, f"row group {row_group} of")
            table = table.rename_columns(self._names).slice(0, rows - at)
            at += table.num_rows
            yield table

    def rows(self) -> Iterator[Document]:
        """Every row, in manifest order."""
        for file, row_group in self.places():
            yield from self.documents(file, row_group)

    def documents(self, file: int, row_group: int) -> Iterator[Document]:
        """The rows of one row group."""
        first = 0
        for table in self.batches(file, row_group):
            for row, text in enumerate(table.column(0).to_pylist(), first):
                yield Document(file, row_group, row, text)
            first += table.num_rows

    def run(self) -> Run:
        """A reader for one lane."""
        return Run(self)

    def opened(self, piece: Piece) -> Opened:
        """A row group, from a piece of it on, in the way that its size asks for."""
        file, row_group = piece.file, piece.row_group
        if self.shards.row_groups([file])[0][row_group].text_bytes <= WHOLE_BYTES:
            return Whole(self.table(file, row_group) if piece.lanes > 1 else self._whole(file, row_group))
        if piece.lanes <= SPILLED_LANES:
            return Streamed(self.batches(file, row_group, piece.start), piece.start)
        return self._spill.open(f"{file}-{row_group}", lambda: self.batches(file, row_group))

    def _whole(self, file: int, row_group: int) -> pa.Table:
        table = self.shards.attempt(lambda s: s.table(row_group), file, f"row group {row_group} of")
        self.row_groups_read += 1
        return table.rename_columns(self._names).slice(0, self.shards.row_groups([file])[0][row_group].rows)

    def _keep(self, key: tuple[int, int], table: pa.Table) -> None:
        self._groups[key] = table
        self._cached += table.nbytes
        while self._cached > CACHED_BYTES and len(self._groups) > 1:
            self._cached -= self._groups.popitem(last=False)[1].nbytes


class _Rest:
    """What is left of a row group: begun again, and read up to where it stood, after a failure."""

    def __init__(self, rows: int, at_once: int, row_group: int) -> None:
        self._rows, self._at_once, self._row_group = rows, at_once, row_group
        self._tables: Iterator[pa.Table] | None = None
        self._at = self.wanted = 0

    def next(self, shard: Any) -> pa.Table:
        """The next rows from row `wanted` on."""
        tables, self._tables = self._tables, None  # whatever fails, it is begun again
        if tables is None:
            tables, self._at = shard.batches(self._row_group, self._at_once), 0
        for table in tables:
            begin, self._at = self._at, self._at + table.num_rows
            if self._at > self.wanted:
                self._tables = tables
                return table.slice(self.wanted - begin)
        raise EOFError(f"it ended at row {self._at} of {self._rows}")


class Opened(Protocol):
    """A row group that a lane reads."""

    def rows(self, start: int, end: int) -> pa.Table:
        """Rows start … end−1, which follow those asked for before."""


class Whole:
    """A row group in memory."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def rows(self, start: int, end: int) -> pa.Table:
        """Rows start … end−1."""
        return self._table.slice(start, end - start)


class Streamed:
    """A row group that is read front to back, of which no more than is asked for is held."""

    def __init__(self, tables: Iterator[pa.Table], start: int) -> None:
        self._tables, self._at = tables, start
        self._rest: pa.Table | None = None

    def rows(self, start: int, end: int) -> pa.Table:
        """Rows start … end−1, which follow those asked for before."""
        found: list[pa.Table] = []
        while self._at < end:
            table = self._rest if self._rest is not None else next(self._tables)
            upto = self._at + table.num_rows
            if upto > start:
                found.append(table.slice(max(0, start - self._at), end - max(start, self._at)))
            self._rest = table.slice(end - self._at) if upto > end else None
            self._at = min(upto, end)
        return joined(found)


class Run:
    """The pieces of one lane, one after another; the row group it stands in stays open."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._at: tuple[int, int, int] | None = None
        self._opened: Opened | None = None

    def read(self, pieces: Sequence[Piece]) -> pa.Table:
        """The rows of some pieces, in their order."""
        return joined([self._rows(p) for p in pieces])

    def _rows(self, piece: Piece) -> pa.Table:
        if self._opened is None or self._at is None or self._at[:2] != piece[:2] or self._at[2] > piece.start:
            self._opened = None  # let go before another is read
            self._opened = self._reader.opened(piece)
        found = self._opened.rows(piece.start, piece.end)
        self._at = (piece.file, piece.row_group, piece.end)
        if piece.last:
            self._opened = None
        return found
