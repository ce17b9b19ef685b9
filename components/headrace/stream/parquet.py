"""Shards of Parquet: footers, whole row groups, and large ones front to back."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.errors import ChangedSource
from headrace.stream.columns import chosen, is_text, unequal
from headrace.stream.files import ANEW, check, open_file
from headrace.stream.footer import Chunk, chunks_of, footer_of, metadata_of
from headrace.stream.manifest import ManifestFile, RowGroup, RowGroups
from headrace.stream.unfit import Unfit, no_column

BUFFER_BYTES = 512 << 10
"""Read at once of a row group that is streamed."""
_PARSED = 5
"""A parsed footer takes about so many times its bytes."""


class ParquetShard:
    """An open file; every method may be called from several threads."""

    def __init__(self, file: ManifestFile, columns: Sequence[str]) -> None:
        self._file, self._columns = file, list(columns)
        self._names = list(dict.fromkeys(map(str, columns)))
        self._turn = threading.Lock()
        self._raw = open_file(file.uri, file.size)
        try:
            self._look()
        except BaseException:
            self.close()
            raise

    def _look(self) -> None:
        file = self._file
        check(file, self._raw)
        metadata, self.digest, size = footer_of(self._raw)
        if file.footer and self.digest != file.footer:
            raise ChangedSource(
                f"{file.uri} was written anew: its footer's digest is {self.digest[:12]}; "
                f"the manifest froze {file.footer[:12]}",
                ANEW,
            )
        place = _place(metadata, self._names[0])
        self.row_groups = RowGroups([_row_group(metadata.row_group(i), place) for i in range(metadata.num_row_groups)])
        self._chunks = chunks_of(metadata, self._columns[0]) if len(self._names) == 1 else None
        values = _values(metadata, place) if self._chunks is None else self._chunks[:, 1].tolist()
        self._unfit = _unfit(metadata, self._columns) or _miscounted(self.row_groups, values)
        # Only what cannot be described in a few numbers keeps the parsed footer.
        self._metadata = None if self._chunks is not None else metadata
        self.memory = 0 if self._chunks is not None else _PARSED * size

    def close(self) -> None:
        """Close the file; nothing may be read after that."""
        self._raw.close()

    def fits(self) -> None:
        """Unfit when a column is not there, or the first one holds no text."""
        if self._unfit is not None:
            raise self._unfit

    def stored(self, row_group: int, columns: int) -> int:
        """Compressed bytes of the first so many wanted columns of a row group."""
        if self._chunks is not None:
            return Chunk(*self._chunks[row_group].tolist()).compressed
        group = self._of(row_group)[0].row_group(row_group)
        chunks = (group.column(i) for i in range(group.num_columns))
        wanted = set(self._columns[:columns])
        paths = ((c, c.path_in_schema) for c in chunks)
        return sum(c.total_compressed_size for c, p in paths if p in wanted or p.split(".")[0] in wanted)

    def table(self, row_group: int) -> pa.Table:
        """The columns of one row group."""
        with self._turn:
            metadata, place = self._of(row_group)
            parquet = pq.ParquetFile(self._raw, metadata=metadata, pre_buffer=False)
            found = parquet.read_row_group(place, columns=self._names, use_threads=False)
        self._all(row_group, found.num_rows)
        return _plain(found, self._columns)

    def batches(self, row_group: int, rows: int) -> Iterator[pa.Table]:
        """The columns of one row group front to back, so many rows at a time, from a file handle of its own."""
        metadata, place = self._of(row_group)
        found = 0
        with open_file(self._file.uri, self._file.size) as raw:
            parquet = pq.ParquetFile(raw, metadata=metadata, pre_buffer=False, buffer_size=BUFFER_BYTES)
            for batch in parquet.iter_batches(rows, row_groups=[place], columns=self._names, use_threads=False):
                found += batch.num_rows
                yield _plain(pa.Table.from_batches([batch]), self._columns)
        self._all(row_group, found)

    def _all(self, row_group: int, found: int) -> None:
        """Unfit unless a row group holds as many rows as its footer says; reading it again is no use."""
        if found != (rows := self.row_groups[row_group].rows):
            raise Unfit("unreadable", f"row group {row_group} holds {found} rows; its footer says {rows}")

    def _of(self, row_group: int) -> tuple[Any, int]:
        """A footer that describes a row group, and the number it has there."""
        if self._chunks is None:
            return self._metadata, row_group
        return metadata_of(Chunk(*self._chunks[row_group].tolist()), self._columns[0]), 0


def _unfit(metadata: Any, columns: Sequence[str]) -> Unfit | None:
    schema = metadata.schema.to_arrow_schema()
    names = [str(n) for n in schema.names]
    for column in columns:
        if column not in names:
            return no_column(column, names)
        if (times := names.count(column)) > 1:
            return Unfit("unreadable", f"{times} of its columns are called {str(column)!r}, expected one", tuple(names))
    kind = schema.field(columns[0]).type
    if is_text(kind):
        return unequal(columns, [schema.field(c).type for c in columns])
    texts = ", ".join(f.name for f in schema if is_text(f.type))
    there = f"; columns of text: {texts}" if texts else ""
    return Unfit("wrong-type", f"the column {columns[0]!r} holds {kind}, expected text{there}", tuple(names))


def _values(metadata: Any, place: int | None) -> list[int] | None:
    """How many values each row group has of a column; None where a row may have several, or none."""
    if place is None or metadata.schema.column(place).max_repetition_level:
        return None
    return [metadata.row_group(i).column(place).num_values for i in range(metadata.num_row_groups)]


def _miscounted(groups: RowGroups, values: Sequence[int] | None) -> Unfit | None:
    """The error for the first row group that has more or fewer values than rows."""
    for number, (held, rows) in enumerate(zip(values or (), groups.table[:, 0].tolist(), strict=False)):
        if held != rows:
            said = f"row group {number} holds {held} values of text; its footer says {rows} rows"
            return Unfit("unreadable", said)
    return None


def _plain(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    table = chosen(table, columns)
    text = table.column(0)
    if pa.types.is_dictionary(text.type):
        table = table.set_column(0, table.schema.names[0], text.cast(text.type.value_type))
    elif pa.types.is_string_view(text.type):
        table = table.set_column(0, table.schema.names[0], text.cast(pa.large_string()))
    table.validate(full=True)  # text that is not UTF-8 is damage: found here, where its place is known
    return table


def _place(metadata: Any, column: str) -> int | None:
    """The number of a column's leaf, the first of one that is nested; names may hold dots, as paths do."""
    paths = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    inside = (i for i, path in enumerate(paths) if path.startswith(f"{column}."))
    return paths.index(column) if column in paths else next(inside, None)


def _row_group(group: Any, place: int | None) -> RowGroup:
    return RowGroup(group.num_rows, 0 if place is None else group.column(place).total_uncompressed_size)
