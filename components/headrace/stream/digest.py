"""Digests of what a step trained, that ranks can add up."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xxhash
from numpy.typing import NDArray

MASK = (1 << 64) - 1


def sample_digest(number: int, ids: NDArray[np.int32]) -> int:
    """64-bit xxh3 of a sample's global number and its token ids as little-endian int32."""
    digest = xxhash.xxh3_64(number.to_bytes(8, "little"))
    digest.update(np.ascontiguousarray(ids, "<i4").data)
    return digest.intdigest()


def step_digest(samples: Iterable[tuple[int, NDArray[np.int32]]]) -> int:
    """The sum of samples' digests mod 2⁶⁴: the same for any order and any division among ranks."""
    return sum(sample_digest(number, ids) for number, ids in samples) & MASK
