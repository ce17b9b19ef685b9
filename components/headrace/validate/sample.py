"""Which rows are looked at: chosen from the whole stream, within a budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.stream.manifest import Manifest
from headrace.stream.order import permutation

ROW_GROUPS_SPREAD = 64
"""A sample is taken from at least so many row groups, where there are so many."""


class Portion(NamedTuple):
    """Rows of one row group to look at: `take` of its `rows`, evenly spaced."""

    file: int
    row_group: int
    rows: int
    take: int

    def numbers(self) -> NDArray[np.int64]:
        """The row numbers: int64 [take], ascending."""
        return np.arange(self.take, dtype=np.int64) * self.rows // self.take


def _shuffled(manifest: Manifest, seed: int) -> Iterator[tuple[int, int, int]]:
    """File, row group and rows of every row group that has some, in a seeded random order."""
    ends = np.cumsum([len(f.known) for f in manifest.files], dtype=np.int64)
    for number in permutation(int(ends[-1]) if len(ends) else 0, seed):
        file = int(np.searchsorted(ends, number, side="right"))
        groups = manifest.files[file].known
        group = int(number - ends[file]) + len(groups)
        if groups.table[group, 0]:
            yield file, group, groups[group].rows


def spread(manifest: Manifest, *, rows: int, text_bytes: int, seed: int = 0) -> tuple[list[Portion], bool]:
    """What to look at within the budget, in a seeded random order of row groups, and whether that is everything.

    A sample takes evenly spaced rows of each row group, in proportion to its size. The order is random even where
    everything fits: should the time run out, what was looked at is still a sample of the whole stream.
    """
    shuffled = _shuffled(manifest, seed)
    if manifest.rows <= rows and manifest.text_bytes <= text_bytes:
        return [Portion(f, g, n, n) for f, g, n in shuffled], True
    wanted = max(1, min(rows, text_bytes * manifest.rows // max(1, manifest.text_bytes)))
    chosen: list[tuple[int, int, int]] = []
    there = 0
    for place in shuffled:
        if there >= wanted and len(chosen) >= ROW_GROUPS_SPREAD:
            break
        chosen.append(place)
        there += place[2]
    # Rows of each in proportion to its size, so that every row has the same chance.
    ends = np.cumsum([n for _, _, n in chosen]) * wanted // there
    takes = np.diff(ends, prepend=0)
    return [Portion(f, g, n, int(take)) for (f, g, n), take in zip(chosen, takes, strict=True) if take], False
