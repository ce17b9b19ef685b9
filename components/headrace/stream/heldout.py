"""The held-out slice: documents chosen by content, written once, and kept out of training wherever they occur."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from headrace.errors import InputError
from headrace.stream.documents import Reader

ROW_GROUPS_READ = 64
DEFAULT_DOCUMENTS = 512
SCHEMA = pa.schema(
    [
        ("text", pa.large_string()),
        ("file", pa.string()),
        ("row_group", pa.int32()),
        ("row", pa.int64()),
        ("hash", pa.uint64()),
    ]
)


def content_hash(text: str) -> int:
    """64-bit xxh3 of a document's UTF-8 bytes: what tells copies apart from other documents."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def is_blank(text: str | None) -> bool:
    """Whether a row holds no document."""
    return not text or text.isspace()


@dataclass(frozen=True)
class HeldOut:
    """Documents of `SCHEMA`, by ascending content hash."""

    table: pa.Table

    @cached_property
    def texts(self) -> list[str]:
        """The documents."""
        texts: list[str] = self.table.column("text").to_pylist()
        return texts

    @cached_property
    def hashes(self) -> frozenset[int]:
        """Content hashes, to be dropped from training."""
        return frozenset(self.table.column("hash").to_pylist())

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the content hashes: the name of this slice."""
        ordered = np.array(sorted(self.hashes), "<u8")
        return hashlib.sha256(ordered.tobytes()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the slice as Parquet."""
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.table, path, compression="zstd")

    @classmethod
    def read(cls, path: Path) -> HeldOut:
        """The slice in a file; InputError when it is not one, or its texts are not those it names."""
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"cannot read the held-out slice {path}: {str(error).splitlines()[0]}",
                "set --heldout to validate's heldout.parquet",
            ) from error
        if table.schema.names != SCHEMA.names:
            raise InputError(
                f"{path} has the columns {', '.join(table.schema.names)}; "
                f"a held-out slice has {', '.join(SCHEMA.names)}",
                "set --heldout to validate's heldout.parquet",
            )
        slice_ = cls(table.cast(SCHEMA))
        if any(content_hash(t) != h for t, h in zip(slice_.texts, table.column("hash").to_pylist(), strict=True)):
            raise InputError(f"{path} was changed after it was written", "run `headrace validate` again")
        return slice_


def make(
    reader: Reader,
    *,
    fraction: float,
    limit: int = DEFAULT_DOCUMENTS,
    progress: Callable[[int, int], None] | None = None,
) -> HeldOut:
    """The documents of lowest content hash among at most 64 row groups, themselves chosen by hash of their place.

    min(⌈fraction × rows⌉, limit) of them, without copies and blanks; fewer when those row groups hold fewer. Of more
    than 64 files only the 64 of lowest hash are looked at, so that no other footer is needed.
    """
    manifest, shards = reader.manifest, reader.shards
    wanted = min(-int(-fraction * shards.size().rows // 1), limit)
    files = shards.lowest(ROW_GROUPS_READ)
    found = ((f, g) for f, groups in zip(files, shards.row_groups(files), strict=True) for g in range(len(groups)))
    chosen = sorted(found, key=lambda p: (_rank(manifest.label(p[0]), p[1]), p))[:ROW_GROUPS_READ]
    lowest: dict[int, tuple[str, str, int, int]] = {}
    for done, (file, row_group) in enumerate(chosen, 1):
        for _, _, row, text in reader.documents(file, row_group):
            if text is not None and not is_blank(text):
                lowest.setdefault(content_hash(text), (text, manifest.label(file), row_group, row))
            if len(lowest) > 4 * wanted + 4_096:
                lowest = {h: lowest[h] for h in heapq.nsmallest(wanted, lowest)}
        if progress is not None:
            progress(done, len(chosen))
    rows = [(*lowest[h], h) for h in heapq.nsmallest(wanted, lowest)]
    columns = [list(c) for c in zip(*rows, strict=True)] if rows else [[] for _ in SCHEMA]
    return HeldOut(pa.table([pa.array(c, t) for c, t in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA))


def _rank(path: str, row_group: int) -> int:
    return xxhash.xxh3_64_intdigest(f"{path}\0{row_group}".encode())
