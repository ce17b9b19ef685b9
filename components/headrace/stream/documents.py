"""Rows of the dataset, read a row group at a time and checked against the manifest."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.errors import ChangedSource
from headrace.stream.manifest import Manifest, footer_of, open_file, places
from headrace.stream.order import Piece
from headrace.stream.retry import retrying

OPEN_FILES = 32
CACHED_BYTES = 256 << 20
"""Row groups that several lanes share are read once while they fit in here."""


class Document(NamedTuple):
    """A row and where it lies; text is None where the column is null."""

    file: int
    row_group: int
    row: int
    text: str | None


class Reader:
    """Columns of row groups; many threads may read at once."""

    def __init__(self, manifest: Manifest, *, columns: Sequence[str] | None = None, deadline_s: float = 600.0) -> None:
        self.manifest = manifest
        self.columns = [manifest.text_column] if columns is None else list(columns)
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._files: OrderedDict[int, tuple[threading.Lock, Any]] = OrderedDict()
        self._groups: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._reading: dict[tuple[int, int], threading.Lock] = {}
        self._cached = 0
        self.row_groups_read = 0

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
            table = retrying(
                lambda: self._read(file, row_group),
                f"row group {row_group} of {self.manifest.files[file].uri}",
                self._deadline_s,
            ).slice(0, self.manifest.files[file].row_groups[row_group].rows)
            with self._lock:
                self._reading.pop(key, None)
                self._keep(key, table)
        return table

    def texts(self, file: int, row_group: int) -> list[str | None]:
        """One row group's texts, in row order."""
        texts: list[str | None] = self.table(file, row_group).column(self.manifest.text_column).to_pylist()
        return texts

    def rows(self) -> Iterator[Document]:
        """Every row, in manifest order."""
        for file, row_group in places(self.manifest):
            for row, text in enumerate(self.texts(file, row_group)):
                yield Document(file, row_group, row, text)

    def read(self, pieces: Sequence[Piece]) -> pa.Table:
        """The rows of some pieces, one after another."""
        return pa.concat_tables([self.table(p.file, p.row_group).slice(p.start, p.end - p.start) for p in pieces])

    def _keep(self, key: tuple[int, int], table: pa.Table) -> None:
        self.row_groups_read += 1
        self._groups[key] = table
        self._cached += table.nbytes
        while self._cached > CACHED_BYTES and len(self._groups) > 1:
            self._cached -= self._groups.popitem(last=False)[1].nbytes

    def _read(self, file: int, row_group: int) -> pa.Table:
        turn, parquet = self._open(file)
        try:
            with turn:
                table = parquet.read_row_group(row_group, columns=self.columns, use_threads=False)
        except BaseException:
            with self._lock:
                self._files.pop(file, None)
            raise
        text = table.column(0)
        if pa.types.is_dictionary(text.type):
            table = table.set_column(0, self.columns[0], text.cast(text.type.value_type))
        table.validate(full=True)  # text that is not UTF-8 is damage: found here, where its place is known
        return table

    def _open(self, file: int) -> tuple[threading.Lock, Any]:
        with self._lock:
            if file in self._files:
                self._files.move_to_end(file)
                return self._files[file]
        opened = (threading.Lock(), self._checked(file))
        with self._lock:
            self._files[file] = opened
            while len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)
        return opened

    def _checked(self, file: int) -> Any:
        expected = self.manifest.files[file]
        raw = open_file(expected.uri)
        size = raw.seek(0, 2)
        if size != expected.size:
            raise ChangedSource(
                f"{expected.uri} has {size} bytes; the manifest froze {expected.size}",
                "the source changed: restore it, or start a new run on a new manifest",
            )
        metadata, digest = footer_of(raw)
        if digest != expected.footer:
            raise ChangedSource(
                f"{expected.uri} was written anew: its footer's digest is {digest[:12]}; "
                f"the manifest froze {expected.footer[:12]}",
                "the source changed: restore it, or start a new run on a new manifest",
            )
        return pq.ParquetFile(raw, metadata=metadata, pre_buffer=True)
