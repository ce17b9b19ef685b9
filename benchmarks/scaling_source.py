"""A dataset like FineWeb in numbers, and what the places that it lies in allow.

Where the numbers are from:
- FineWeb's files hold about 2 GB each and about a million documents of 3 kB (its dataset card, and discussion 48 of
  it, which also knows files of one row group; those written by datatrove's `ParquetWriter` have one each 1,000 rows).
- 4.4 bytes of English a token of GPT-2's vocabulary, 1.9 bytes of text a stored byte.
- 3,600 bytes of footer a row group: estimated, from nine columns of FineWeb's kind as pyarrow writes them, 1,360 bytes
  and twice the shortest and longest text that statistics keep.
- What the Hub allows in five minutes: its page on rate limits, September 2025. Cloud Storage: 5,000 reads and 1,000
  writes a second of a bucket that has not grown yet, one write a second of an object (its request rate guidelines).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from benchmarks.scaling_reads import Source
from headrace.stream.manifest import Manifest, ManifestFile, Part, RowGroup, RowGroups
from headrace.stream.order import mix

HUB_WINDOW_S = 300
HUB_RESOLVES = {"free account": 5_000, "PRO": 12_000, "Team": 20_000, "Enterprise": 50_000}
"""Requests of files that an account may make in a window."""
BUCKET_READS_PER_S = 5_000
BUCKET_ASKS = 5
"""Questions about a file each time it is opened on gs://: three to six with gcsfs 2026.10, counted; none on the Hub."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a dataset is laid out. row_bytes: mean text of a row; stored: bytes of text a byte in the file."""

    files: int = 2_000
    groups: int = 1_000
    rows: int = 1_000
    row_bytes: int = 3_000
    token_bytes: float = 4.4
    stored: float = 1.9
    footer_bytes: int = 3_600
    """A row group."""

    @property
    def file_bytes(self) -> int:
        """Bytes of a file's text as they are stored, about."""
        return int(self.groups * self.rows * self.row_bytes / self.stored)

    def group(self, file: int, number: int) -> RowGroup:
        """A row group, its rows up to a fifth shorter or longer than the mean."""
        size = self.rows * self.row_bytes
        return RowGroup(self.rows, size * 4 // 5 + mix(file * self.groups + number) % (2 * size // 5))

    def source(self, *, known: bool) -> Source:
        """The dataset for the model of reads."""
        groups = _Groups(self)
        return Source(
            groups=groups,
            chunk=lambda file, group: int(groups[file][group].text_bytes / self.stored),
            footer=lambda _: self.footer_bytes * self.groups,
            tokens=lambda p: (p.end - p.start) * groups[p.file][p.row_group].text_bytes / self.rows / self.token_bytes,
            known=known,
        )

    def manifest(self, *, known: bool) -> Manifest:
        """The dataset as validation hands it on, or as it is listed."""
        files = tuple(self._file(f, known=known) for f in range(self.files))
        return Manifest((Part(name="org/data", revision="0" * 40, files=files),))

    def _file(self, number: int, *, known: bool) -> ManifestFile:
        path = f"data/CC-MAIN-2024-10/{number // 1_000:03}_{number:05}.parquet"
        groups = RowGroups([self.group(number, g) for g in range(self.groups)]) if known else None
        return ManifestFile(
            path, f"hf://datasets/org/data@{'0' * 40}/{path}", self.file_bytes, f"{mix(number):064x}",
            f"{mix(number + 1):064x}" if known else "", groups,
        )  # fmt: skip


class _Groups(Sequence[Sequence[RowGroup]]):
    """Row groups by file, worked out when they are asked for: there may be millions."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._of = lru_cache(maxsize=1_024)(self._worked_out)

    def _worked_out(self, file: int) -> tuple[RowGroup, ...]:
        return tuple(self._shape.group(file, g) for g in range(self._shape.groups))

    def __len__(self) -> int:
        return self._shape.files

    def __getitem__(self, file: Any) -> Any:
        return self._of(file)
