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
    input_ids, positions = np.empty((rows, block), np.int64), np.empty((rows, block), np.int64)
    positions[:] = _positions(block)
    masked: list[int] = []
    short = [(row, len(ids)) for row, (ids, _) in enumerate(samples) if len(ids) < block]
    if short:
        for row, (ids, _) in enumerate(samples):
            input_ids[row, : len(ids)] = ids
    elif samples:
        np.concatenate([ids for ids, _ in samples], out=input_ids.reshape(-1)[: len(samples) * block])
    for row, (ids, starts) in enumerate(samples):
        masked += [row * block + start for start in starts]
        # The first segment's positions stand there already.
        for i in range(1, len(starts)):
            start, end = starts[i], starts[i + 1] if i + 1 < len(starts) else len(ids)
            positions[row, start:end] = _positions(block)[: end - start]
    fillers = [*short, *((row, 0) for row in range(len(samples), rows))]
    for row, n in fillers:
        input_ids[row, n:] = eos_id
        positions[row, n:] = _positions(block)[: block - n]
    labels = input_ids.copy()
    labels.reshape(-1)[masked] = IGNORED
    for row, n in fillers:
        labels[row, n:] = IGNORED
    return Rows(input_ids, labels, positions)


@lru_cache(maxsize=8)
def _positions(block: int) -> NDArray[np.int64]:
    return np.arange(block, dtype=np.int64)
