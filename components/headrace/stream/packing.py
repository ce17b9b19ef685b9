"""Blocks of tokens as a model takes them: ids, labels, and positions that restart with every document."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

IGNORED = -100
"""The label that a loss leaves out, in PyTorch's and transformers' convention."""


def place(
    ids: NDArray[np.int32],
    starts: Sequence[int],
    eos_id: int,
    input_ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    position_ids: NDArray[np.int64],
) -> None:
    """Write one sample into the rows of a micro-batch, each int64 [L].

    ids: int32 [n ≤ L]. starts: ascending offsets at which a document's tokens begin, the first of them 0 (also where a
    document goes on from the block before). The first label of each of these segments is masked, because nothing
    in its document comes before it. What lies behind n is filler: EOS, trained by nobody.
    """
    n = len(ids)
    input_ids[:n] = ids
    labels[:n] = ids
    for start, end in zip(starts, [*starts[1:], n] if n else (), strict=True):
        labels[start] = IGNORED
        position_ids[start:end] = _positions(len(position_ids))[: end - start]
    if n < len(input_ids):
        input_ids[n:] = eos_id
        labels[n:] = IGNORED
        position_ids[n:] = _positions(len(position_ids))[: len(position_ids) - n]


@lru_cache(maxsize=8)
def _positions(block: int) -> NDArray[np.int64]:
    return np.arange(block, dtype=np.int64)
