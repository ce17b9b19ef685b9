"""Blocks of tokens as a model takes them: ids, labels, and positions that restart with every document."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

IGNORED = -100
"""The label that a loss leaves out, in PyTorch's and transformers' convention."""


class Rows(NamedTuple):
    """Rows of a micro-batch, each int64 [b, L]."""

    input_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    position_ids: NDArray[np.int64]


def place(samples: Sequence[tuple[NDArray[np.int32], Sequence[int]]], rows: int, block: int, eos_id: int) -> Rows:
    """Samples, each (ids, starts), as rows of a micro-batch; what they leave over is filler.

    ids: int32 [n ≤ L]. starts: ascending offsets at which a document's tokens begin, the first of them 0 (also where a
    document goes on from the block before). The first label of each of these segments is masked, because nothing
    in its document comes before it. What lies behind n is filler: EOS, trained by nobody.
    """
    input_ids = np.empty((rows, block), np.int64)
    positions = np.empty((rows, block), np.int64)
    positions[:] = _positions(block)
    masked_rows: list[int] = []
    masked: list[int] = []
    for row, (ids, starts) in enumerate(samples):
        n = len(ids)
        input_ids[row, :n] = ids
        masked_rows += [row] * len(starts)
        masked += starts
        # The first segment's positions stand there already.
        for start, end in zip(starts[1:], [*starts[2:], n], strict=False):
            positions[row, start:end] = _positions(block)[: end - start]
        if n < block:
            input_ids[row, n:] = eos_id
            positions[row, n:] = _positions(block)[: block - n]
    input_ids[len(samples) :] = eos_id
    labels = input_ids.copy()
    labels[masked_rows, masked] = IGNORED
    for row, (ids, _) in enumerate(samples):
        if len(ids) < block:
            labels[row, len(ids) :] = IGNORED
    labels[len(samples) :] = IGNORED
    return Rows(input_ids, labels, positions)


@lru_cache(maxsize=8)
def _positions(block: int) -> NDArray[np.int64]:
    return np.arange(block, dtype=np.int64)
