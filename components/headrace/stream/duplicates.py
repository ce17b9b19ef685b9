"""Exact copies of documents: which rows of a whole dataset repeat an earlier one, as one bit a row."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.stream.documents import Reader
from headrace.stream.filters import Filter, first_refusal
from headrace.stream.heldout import is_blank
from headrace.stream.order import Piece

PARTITIONS = 64
"""Hashes are sorted one such part at a time, which bounds the memory: 24 bytes a row on disk, 1/64 of it at once."""
SCHEMA = pa.schema([("file", pa.int32()), ("row_group", pa.int32()), ("rows", pa.int64()), ("bits", pa.binary())])
_RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<u8")])


@dataclass(frozen=True)
class Duplicates:
    """Row groups of `SCHEMA` that hold copies; bits in numpy's little bit order, 1 for a row that is dropped."""

    table: pa.Table
    manifest_hash: str

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the bitmap: it names the rows that are dropped."""
        found = hashlib.sha256(self.manifest_hash.encode())
        for row in self.table.to_pylist():
            found.update(repr((row["file"], row["row_group"], row["rows"])).encode() + row["bits"])
        return found.hexdigest()

    @cached_property
    def rows(self) -> int:
        """Rows that are dropped."""
        return sum(int(np.unpackbits(np.frombuffer(b, np.uint8)).sum()) for b in self._bits.values())

    @cached_property
    def _bits(self) -> dict[tuple[int, int], bytes]:
        return {(r["file"], r["row_group"]): r["bits"] for r in self.table.to_pylist()}

    def dropped(self, pieces: Sequence[Piece]) -> NDArray[np.bool_]:
        """Which rows of some pieces are copies: bool [rows]."""
        return np.concatenate([self._of(p) for p in pieces])

    def _of(self, piece: Piece) -> NDArray[np.bool_]:
        bits = self._bits.get((piece.file, piece.row_group))
        if bits is None:
            return np.zeros(piece.end - piece.start, bool)
        first = piece.start // 8
        found = np.unpackbits(np.frombuffer(bits[first : -(-piece.end // 8)], np.uint8), bitorder="little")
        return found[piece.start - 8 * first : piece.end - 8 * first].astype(bool)

    def write(self, path: Path) -> None:
        """Write the bitmap as Parquet."""
        table = self.table.replace_schema_metadata({"manifest": self.manifest_hash})
        pq.write_table(table, path, compression="zstd")

    @classmethod
    def read(cls, path: Path, manifest_hash: str) -> Duplicates:
        """The bitmap in a file; InputError when it is none, or one of other data."""
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"cannot read --duplicates {path}: {str(error).splitlines()[0]}",
                "name the duplicates.parquet of `headrace validate --dedup dataset`",
            ) from error
        of = (table.schema.metadata or {}).get(b"manifest", b"").decode()
        if table.schema.names != SCHEMA.names or of != manifest_hash:
            raise InputError(
                f"--duplicates {path} is of the manifest {of[:12] or 'none'}; the data's is {manifest_hash[:12]}",
                "run `headrace validate --dedup dataset` again on this data",
            )
        return cls(table.replace_schema_metadata(None), of)


def find(
    reader: Reader,
    filters: Sequence[Filter] = (),
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Duplicates:
    """Read every row; the first of equal documents in manifest order stays, of those that no filter refuses.

    Equal are documents of the same 128-bit xxh3: one false pair is expected at about 10¹⁹ rows.
    """
    groups = list(reader.places())
    firsts: list[int] = []
    counts: list[int] = []
    with tempfile.TemporaryDirectory(prefix="headrace-duplicates-") as folder, ExitStack() as stack:
        paths = [Path(folder) / str(i) for i in range(PARTITIONS)]
        files = [stack.enter_context(p.open("wb")) for p in paths]
        row = 0
        for done, (file, row_group) in enumerate(groups, 1):
            firsts.append(row)
            for table in reader.batches(file, row_group):
                found = _hashes(table, row, filters)
                parts = found["high"] >> np.uint64(58)
                for part in np.unique(parts):
                    files[int(part)].write(found[parts == part].tobytes())
                row += table.num_rows
            counts.append(row - firsts[-1])
            if progress is not None:
                progress(done, len(groups))
        for file_ in files:
            file_.flush()
        copies = np.sort(np.concatenate([_copies(p) for p in paths]))
    rows = [
        (*place, count, np.packbits(bits, bitorder="little").tobytes())
        for place, count, bits in _by_group(copies, groups, firsts, counts)
    ]
    columns = [list(c) for c in zip(*rows, strict=True)] if rows else [[] for _ in SCHEMA]
    arrays = [pa.array(c, t) for c, t in zip(columns, SCHEMA.types, strict=True)]
    return Duplicates(pa.table(arrays, schema=SCHEMA), reader.manifest.hash)


def _hashes(table: pa.Table, first: int, filters: Sequence[Filter]) -> NDArray[np.void]:
    refused = first_refusal(filters, table).tolist() if filters else [0] * table.num_rows
    found = [
        (xxhash.xxh3_128_digest(text.encode()), row)
        for row, (text, why) in enumerate(zip(table.column(0).to_pylist(), refused, strict=True), first)
        if text is not None and not why and not is_blank(text)
    ]
    records = np.empty(len(found), _RECORD)
    digests = np.frombuffer(b"".join(d for d, _ in found), "<u8").reshape(-1, 2)
    records["high"], records["low"], records["row"] = digests[:, 1], digests[:, 0], [r for _, r in found]
    return records


def _copies(path: Path) -> NDArray[np.uint64]:
    records = np.fromfile(path, _RECORD)
    records = records[np.lexsort((records["row"], records["low"], records["high"]))]
    same = (records["high"][1:] == records["high"][:-1]) & (records["low"][1:] == records["low"][:-1])
    rows: NDArray[np.uint64] = records["row"][1:][same]
    return rows


def _by_group(
    copies: NDArray[np.uint64], groups: Sequence[tuple[int, int]], firsts: Sequence[int], counts: Sequence[int]
) -> list[tuple[tuple[int, int], int, NDArray[np.bool_]]]:
    ends = np.searchsorted(copies, np.array([*firsts, sum(counts)], np.uint64))
    answer = []
    for i, (begin, end) in enumerate(pairwise(ends)):
        if begin < end:
            bits = np.zeros(counts[i], bool)
            bits[copies[begin:end].astype(np.int64) - firsts[i]] = True
            answer.append((groups[i], counts[i], bits))
    return answer
