"""The files of a manifest as shards of row groups: opened when they are needed, checked, kept open while they fit."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import xxhash

from headrace.stream.files import is_remote
from headrace.stream.foreign import ForeignShard
from headrace.stream.jsonl import JsonLinesShard
from headrace.stream.manifest import Manifest, ManifestFile, Part, RowGroups
from headrace.stream.order import SEGMENT_FILES
from headrace.stream.parquet import ParquetShard
from headrace.stream.retry import retrying
from headrace.stream.unfit import Unfit

THREADS = 16
OPEN_FILES = 2 * SEGMENT_FILES + 32
"""Of a segment and of the next, whose footers are read ahead: fewer would be closed before they are read from."""
OPEN_BYTES = 96 << 20
"""Parsed footers of open files, about, at most."""
SAMPLED_FILES = 64


class Shard(Protocol):
    """One file. memory: bytes that keeping it open takes; digest: names what its row groups follow from."""

    memory: int
    digest: str

    @property
    def row_groups(self) -> RowGroups:
        """Its row groups, in file order."""

    def fits(self) -> None:
        """Unfit when it lacks a column, or the first one holds no text."""

    def stored(self, row_group: int, columns: int) -> int:
        """Bytes of the file that reading its first so many wanted columns of a row group takes."""

    def close(self) -> None:
        """Close it; nothing may be read after that."""

    def table(self, row_group: int) -> pa.Table:
        """One row group."""

    def batches(self, row_group: int, rows: int) -> Iterator[pa.Table]:
        """One row group front to back, about so many rows at a time."""


def open_shard(file: ManifestFile, part: Part, columns: Sequence[str]) -> Shard:
    """A file, opened and checked against what was frozen of it."""
    if part.format == "parquet":
        return ParquetShard(file, columns)
    if part.format == "json" and not part.options:
        return JsonLinesShard(file, columns)
    return ForeignShard(file, columns, part.format, part.options)


class Size(NamedTuple):
    """How much data there is. exact: False where it is worked out from some of the files."""

    rows: int
    text_bytes: int
    row_groups: int
    largest: int
    """Text bytes of the largest row group seen."""
    exact: bool


class Shards:
    """Access to the files of a manifest; many threads may ask at once.

    columns: names to read instead of each part's text column and `extra` ones behind it.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        columns: Sequence[str] | None = None,
        extra: Sequence[str] = (),
        deadline_s: float = 600.0,
    ) -> None:
        self.manifest, self.deadline_s = manifest, deadline_s
        self._text = columns is None
        self._columns = [list(columns or (p.text_column, *extra)) for p in manifest.parts]
        self._lock = threading.Lock()
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._groups: OrderedDict[int, Future[RowGroups]] = OrderedDict()
        self._pool: ThreadPoolExecutor | None = None
        self._closing = threading.Event()

    def shard(self, file: int) -> Shard:
        """An open file; retried until the deadline, InputError where that is no use."""
        found: Shard = self._tried(lambda: self._get(file), file, "the footer of")
        return found

    def _get(self, file: int) -> Shard:
        with self._lock:
            if file in self._open:
                self._open.move_to_end(file)
                return self._open[file]
        part = self.manifest.part_number(file)
        opened = open_shard(self.manifest.files[file], self.manifest.parts[part], self._columns[part])
        try:
            if self._text:
                opened.fits()
        except BaseException:
            opened.close()
            raise
        with self._lock:
            self._open[file] = opened
            while len(self._open) > OPEN_FILES or sum(s.memory for s in self._open.values()) > OPEN_BYTES:
                if len(self._open) == 1:
                    break
                self._open.popitem(last=False)
        return opened

    def close(self) -> None:
        """Give up what is being read, so that no thread outlives its use."""
        self._closing.set()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def forget(self, file: int) -> None:
        """Open a file anew when it is asked for again: after a failure, its connection is not to be trusted."""
        with self._lock:
            self._open.pop(file, None)

    def row_groups(self, files: Sequence[int]) -> list[RowGroups]:
        """The row groups of some files, read in parallel where the manifest does not hold them."""
        self.ahead(files)
        return [self._known(f) for f in files]

    def ahead(self, files: Sequence[int]) -> None:
        """Begin to read the row groups of files that will be asked for."""
        with self._lock:
            for file in files:
                if self.manifest.files[file].row_groups is None and file not in self._groups:
                    if self._pool is None:
                        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="headrace-footer")
                    self._groups[file] = self._pool.submit(self._read_groups, file)
            while len(self._groups) > 4 * SEGMENT_FILES and next(iter(self._groups.values())).done():
                self._groups.popitem(last=False)

    def _read_groups(self, file: int) -> RowGroups:
        return self.shard(file).row_groups

    def _known(self, file: int) -> RowGroups:
        frozen = self.manifest.files[file].row_groups
        if frozen is not None:
            return frozen
        with self._lock:
            found = self._groups.get(file)
        return found.result() if found is not None else self.shard(file).row_groups

    def size(self) -> Size:
        """Rows, bytes and row groups: counted for a segment's worth of files, else worked out from a fixed few.

        The few are those of lowest hash of their name, so that everyone who looks at a source finds the same.
        """
        numbers = list(range(len(self.manifest.files)))
        every = len(numbers) <= SEGMENT_FILES or self.manifest.limit is not None
        chosen = numbers if every else sorted(sorted(numbers, key=self._rank)[:SAMPLED_FILES])
        groups = [g for found in self.row_groups(chosen) for g in found]
        seen = sum(self.manifest.files[f].size for f in chosen)
        whole = sum(f.size for f in self.manifest.files)

        def scaled(n: int) -> int:
            return n if every else n * whole // max(1, seen)

        return Size(
            scaled(sum(g.rows for g in groups)), scaled(sum(g.text_bytes for g in groups)), scaled(len(groups)),
            max((g.text_bytes for g in groups), default=0), every,
        )  # fmt: skip

    def _rank(self, file: int) -> tuple[int, int]:
        return xxhash.xxh3_64_intdigest(self.manifest.label(file).encode("utf-8", "surrogateescape")), file

    def lowest(self, count: int) -> list[int]:
        """The files of lowest hash of their name, at most so many."""
        return sorted(range(len(self.manifest.files)), key=self._rank)[:count]

    def attempt(self, read: Callable[[Shard], Any], file: int, what: str) -> Any:
        """What `read` makes of an open file; tried again with a fresh one until the deadline."""

        def once() -> Any:
            try:
                return read(self._get(file))
            except BaseException:
                self.forget(file)
                raise

        return self._tried(once, file, what)

    def _tried(self, read: Callable[[], Any], file: int, what: str) -> Any:
        try:
            uri = self.manifest.files[file].uri
            return retrying(read, f"{what} {uri}", self.deadline_s, remote=is_remote(uri), closing=self._closing)
        except Unfit as error:
            raise Unfit(
                error.kind, f"{self.manifest.label(file)}: {error.message}", error.columns, error.remedy
            ) from error
