"""How much of the held-out slice occurs in what is trained, by the n-grams that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.stream.heldout import HeldOut
from headrace.validate.counting import pieces
from headrace.validate.seen import Place, Seen

N = 13
"""Words of an n-gram, divided by white space."""
MOST_GRAMS = 4_000_000
"""Of more n-grams of the slice only those of lowest hash are looked for: 64 MB."""
_FILTER_BITS = 24
_FACTORS = np.array([pow(0x9E3779B97F4A7C15, i, 1 << 64) for i in range(N)], np.uint64)


def grams(text: str) -> NDArray[np.uint64]:
    """A hash of every n-gram of a text, the same within one process: uint64 [words − 12], empty for fewer than 13."""
    words = np.fromiter(map(hash, text.split()), np.int64).view(np.uint64)
    if len(words) < N:
        return np.empty(0, np.uint64)
    length = len(words) - N + 1
    found = np.zeros(length, np.uint64)
    for i, factor in enumerate(_FACTORS):
        found += words[i : i + length] * factor
    return found ^ (found >> np.uint64(31))


class Overlap:
    """Which n-grams of the held-out documents were seen in documents that are trained.

    Documents whose copy is held out are not trained and do not count.
    """

    def __init__(self, heldout: HeldOut | None) -> None:
        self._heldout = heldout
        each = [np.unique(np.concatenate([grams(p) for p in pieces(t)])) for t in heldout.texts] if heldout else []
        every = np.unique(np.concatenate(each)) if each else np.empty(0, np.uint64)
        # By hash, so that whether an n-gram is looked for does not depend on the document it is in.
        self._last = every[MOST_GRAMS - 1] if len(every) > MOST_GRAMS else np.uint64(2**64 - 1)
        self._grams = every[:MOST_GRAMS]
        self._of = [np.searchsorted(self._grams, g[g <= self._last]) for g in each]
        self._seen = np.zeros(len(self._grams), bool)
        self._maybe = np.zeros(1 << _FILTER_BITS if len(self._grams) else 1, bool)
        self._maybe[self._slot(self._grams)] = True
        self._held = np.array(sorted(heldout.hashes), np.uint64) if heldout else np.empty(0, np.uint64)
        self.documents = 0
        """Documents of the training stream that were looked at."""

    def _slot(self, found: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return found & np.uint64(len(self._maybe) - 1)

    def look(self, seen: Seen) -> None:
        """Note the n-grams of these documents that occur in held-out ones."""
        if not len(self._grams):
            return
        trained = ~np.isin(seen.hashes, self._held)
        self.documents += int(trained.sum())
        for number in np.flatnonzero(trained).tolist():
            for piece in pieces(seen.documents[number]):
                self._note(grams(piece))

    def _note(self, found: NDArray[np.uint64]) -> None:
        found = found[self._maybe[self._slot(found)]]
        if len(found):
            places = np.minimum(np.searchsorted(self._grams, found), len(self._grams) - 1)
            self._seen[places[self._grams[places] == found]] = True

    def shares(self) -> list[float | None]:
        """For each held-out document the share of its n-grams that were seen; None where it is too short for any."""
        return [float(self._seen[of].mean()) if len(of) else None for of in self._of]

    def overlapping(self, share: float) -> list[Place]:
        """Held-out documents of which at least this share of n-grams was seen."""
        rows: Sequence[dict[str, Any]] = self._heldout.table.drop_columns("text").to_pylist() if self._heldout else []
        return [
            Place(0, row["row_group"], row["row"], row["file"])
            for row, found in zip(rows, self.shares(), strict=True)
            if found is not None and found >= share
        ]
