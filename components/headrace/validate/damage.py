"""Reading that says where data is damaged, and goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from headrace.errors import DamagedData
from headrace.stream.columns import joined
from headrace.stream.documents import Reader
from headrace.stream.manifest import Manifest
from headrace.stream.unfit import Unfit
from headrace.validate.sample import Portion


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
            text = " ".join(str(error.__cause__ or error).split()).rstrip(".")
            raise DamagedRows(Unreadable(self.manifest.label(file), row_group, text)) from error


class SampleReader:
    """Chosen rows with their text, the columns that filters look at and, where a file has them, further ones.

    further: columns that are only described. A file that lacks one, or in which one is damaged, is read without.
    """

    def __init__(
        self, manifest: Manifest, needed: Sequence[str], further: Sequence[str] = (), *, deadline_s: float
    ) -> None:
        self.manifest, self._needed = manifest, 1 + len(needed)
        more = [c for c in further if c not in needed]
        self._plain = CarefulReader(manifest, extra=needed, deadline_s=deadline_s)
        self._full = CarefulReader(manifest, extra=[*needed, *more], deadline_s=deadline_s) if more else self._plain
        self._without: set[int] = set()

    def read(self, portion: Portion) -> pa.Table:
        """The rows of a portion, without holding a large row group; DamagedRows where they cannot be read."""
        if portion.file not in self._without:
            try:
                return _rows(self._full, portion)
            except (DamagedRows, Unfit):
                if self._full is self._plain:
                    raise
                self._without.add(portion.file)
        return _rows(self._plain, portion)

    def stored(self, portion: Portion) -> int:
        """Bytes of the file that training reads of this row group: its text and what filters look at."""
        reader = self._plain if portion.file in self._without else self._full
        return reader.shards.shard(portion.file).stored(portion.row_group, self._needed)


def _rows(reader: Reader, portion: Portion) -> pa.Table:
    numbers, found, first = portion.numbers(), [], 0
    for table in reader.batches(portion.file, portion.row_group):
        inside = numbers[(numbers >= first) & (numbers < first + table.num_rows)] - first
        found.append(table if len(inside) == table.num_rows else table.take(inside))
        first += table.num_rows
    return joined(found)
