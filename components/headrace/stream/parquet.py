"""Shards of Parquet: footers, whole row groups, and large ones front to back."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.errors import ChangedSource
from headrace.stream.files import ANEW, TAIL_BYTES, check, open_file
from headrace.stream.manifest import ManifestFile, RowGroup
from headrace.stream.unfit import Unfit, no_column

BUFFER_BYTES = 1 << 20
"""Read at once of a row group that is streamed."""
_PARSED = 5
"""A parsed footer takes about so many times its bytes."""


class ParquetShard:
    """An open file; every method may be called from several threads."""

    def __init__(self, file: ManifestFile, columns: Sequence[str]) -> None:
        self._file, self._columns = file, list(columns)
        self._turn = threading.Lock()
        self._raw = open_file(file.uri, file.size)
        check(file, self._raw)
        self._metadata, self.digest, size = footer_of(self._raw)
        self.memory = _PARSED * size
        if file.footer and self.digest != file.footer:
            raise ChangedSource(
                f"{file.uri} was written anew: its footer's digest is {self.digest[:12]}; "
                f"the manifest froze {file.footer[:12]}",
                ANEW,
            )
        self._parquet = pq.ParquetFile(self._raw, metadata=self._metadata, pre_buffer=False)

    @property
    def row_groups(self) -> tuple[RowGroup, ...]:
        """Its row groups, sized by the first column."""
        return tuple(
            _row_group(self._metadata.row_group(i), self._columns[0]) for i in range(self._metadata.num_row_groups)
        )

    def fits(self) -> None:
        """Unfit when a column is not there, or the first one holds no text."""
        schema = self._metadata.schema.to_arrow_schema()
        names = [str(n) for n in schema.names]
        for column in self._columns:
            if column not in names:
                raise no_column(column, names)
        kind = schema.field(self._columns[0]).type
        if not is_text(kind):
            texts = ", ".join(f.name for f in schema if is_text(f.type))
            there = f"; columns of text: {texts}" if texts else ""
            message = f"the column {self._columns[0]!r} holds {kind}, expected text{there}"
            raise Unfit("wrong-type", message, tuple(names))

    def table(self, row_group: int) -> pa.Table:
        """The columns of one row group."""
        with self._turn:
            return _plain(self._parquet.read_row_group(row_group, columns=self._columns, use_threads=False))

    def batches(self, row_group: int, rows: int) -> Iterator[pa.Table]:
        """The columns of one row group front to back, so many rows at a time, from a file handle of its own."""
        with open_file(self._file.uri, self._file.size) as raw:
            parquet = pq.ParquetFile(raw, metadata=self._metadata, pre_buffer=False, buffer_size=BUFFER_BYTES)
            for batch in parquet.iter_batches(rows, row_groups=[row_group], columns=self._columns, use_threads=False):
                yield _plain(pa.Table.from_batches([batch]))


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is text, also where it is dictionary-encoded."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def _plain(table: pa.Table) -> pa.Table:
    text = table.column(0)
    if pa.types.is_dictionary(text.type):
        table = table.set_column(0, table.schema.names[0], text.cast(text.type.value_type))
    elif pa.types.is_string_view(text.type):
        table = table.set_column(0, table.schema.names[0], text.cast(pa.large_string()))
    table.validate(full=True)  # text that is not UTF-8 is damage: found here, where its place is known
    return table


def _row_group(group: Any, column: str) -> RowGroup:
    columns = (group.column(i) for i in range(group.num_columns))
    size = next((c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] == column), 0)
    return RowGroup(group.num_rows, size)


def footer_of(raw: Any) -> tuple[Any, str, int]:
    """An open file's pyarrow FileMetaData, and the hex SHA-256 and number of the bytes it was read from.

    pyarrow's ArrowInvalid when the file does not end as Parquet does.
    """
    size = raw.seek(0, 2)
    raw.seek(max(0, size - TAIL_BYTES))
    tail = raw.read()
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if size < 12 or tail[-4:] != b"PAR1" or length > size - 4:
        raise pa.ArrowInvalid("it does not end with a Parquet footer; it may be cut short")
    if length > len(tail):
        raw.seek(size - length)
        tail = raw.read(length)
    footer = tail[-length:]
    return pq.read_metadata(pa.BufferReader(footer)), hashlib.sha256(footer).hexdigest(), length
