"""What every measure is given: the rows of one row group that were looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

EXAMPLES = 5


class Place(NamedTuple):
    """Where a row lies; places sort as the manifest does. path: of the file."""

    file: int
    row_group: int
    row: int
    path: str

    def __str__(self) -> str:
        return f"{self.path}, row group {self.row_group}, row {self.row}"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Rows of one row group. documents: those that training keeps, with the place and the content hash of each.

    table: every row that was looked at, the text first and then other columns.
    """

    file: int
    path: str
    table: pa.Table
    documents: Sequence[str]
    places: Sequence[Place]
    hashes: NDArray[np.uint64]


class Measure(Protocol):
    """Something that is found out from rows, one row group after another."""

    def look(self, seen: Seen) -> None:
        """Take these rows into account."""


@dataclass
class Examples:
    """The first few places where kinds of rows were seen, in manifest order whatever the order of reading."""

    places: dict[str, list[Place]] = field(default_factory=dict)

    def note(self, kind: str, place: Place) -> None:
        """Remember a place, unless there are enough before it."""
        known = self.places.setdefault(kind, [])
        if len(known) < EXAMPLES or place < known[-1]:
            known.append(place)
            known.sort()
            del known[EXAMPLES:]

    def of(self, *kinds: str) -> list[str]:
        """What is known of some kinds, one kind after another."""
        return [str(place) for kind in kinds for place in self.places.get(kind, ())]
