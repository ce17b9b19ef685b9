"""How the text of files differs: profiles of letter triples, which tell languages and kinds of text apart.

After Cavnar and Trenkle, N-gram-based text categorization (1994), with the triples hashed into a fixed table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.validate.seen import Seen

CHARACTERS = 2_000
"""Of each document so many are enough."""
BUCKETS = 4_096
LEAST_CHARACTERS = 10_000
"""A file of less text is not judged."""
MOST_GROUPS = 8
_A, _B, _C = np.uint32(2654435761), np.uint32(2246822519), np.uint32(3266489917)


def profile(text: str) -> NDArray[np.int64]:
    """How often each triple of characters, small letters, digits as one, occurs at its beginning: int64 [BUCKETS]."""
    points = np.frombuffer(text[:CHARACTERS].lower().encode("utf-32-le", "surrogatepass"), "<u4")
    points = np.where((points >= 48) & (points <= 57), 48, points).astype(np.uint32)
    if len(points) < 3:
        return np.zeros(BUCKETS, np.int64)
    hashed = points[:-2] * _A ^ points[1:-1] * _B ^ points[2:] * _C
    return np.bincount((hashed >> np.uint32(20)).astype(np.int64), minlength=BUCKETS)


class Profiles:
    """The profile of every file that rows were looked at of."""

    def __init__(self) -> None:
        self._of: dict[int, NDArray[np.int64]] = {}

    def look(self, seen: Seen) -> None:
        """Add the documents to their file's profile."""
        if seen.documents:
            found = sum((profile(t) for t in seen.documents), np.zeros(BUCKETS, np.int64))
            self._of[seen.file] = self._of.get(seen.file, 0) + found

    def grouped(self, limit: float) -> list[list[int]]:
        """Files with enough text, in groups whose profiles differ by `limit` or more: 0 alike, 1 nothing in common."""
        return leaders({f: p for f, p in self._of.items() if p.sum() >= LEAST_CHARACTERS}, difference, limit)


def difference(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """One less the cosine of two profiles."""
    a, b = one.astype(float), other.astype(float)
    return 1 - float(a @ b / np.sqrt((a @ a) * (b @ b)))


T = TypeVar("T")


def leaders(things: Mapping[int, T], distance: Callable[[T, T], float], limit: float) -> list[list[int]]:
    """Numbers of things in groups, the largest group first: each is nearer than `limit` to the first of its group.

    The many that fit no group once there are MOST_GROUPS join the last.
    """
    groups: list[list[int]] = []
    for number in sorted(things):
        near = next((g for g in groups if distance(things[g[0]], things[number]) < limit), None)
        if near is None and len(groups) == MOST_GROUPS:
            near = groups[-1]
        if near is None:
            groups.append([number])
        else:
            near.append(number)
    return sorted(groups, key=lambda g: (-len(g), g[0]))
