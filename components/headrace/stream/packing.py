"""Blocks of tokens as a model takes them: ids, labels, and positions that restart with every document."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IGNORED = -100
"""The label that a loss leaves out, in PyTorch's and transformers' convention."""


def place(
    row: int,
    ids: NDArray[np.int32],
    starts: NDArray[np.int64],
    input_ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    position_ids: NDArray[np.int64],
) -> None:
    """Write one sample into row `row` of int64 [b, L] arrays that hold filler (see `filler`) there.

    ids: int32 [n ≤ L]. starts: ascending offsets at which a document's tokens begin, the first of them 0 (also
    where a document goes on from the block before). The first label of each of these segments is masked, because
    nothing in its document comes before it; so is what lies behind n.
    """
    n = len(ids)
    input_ids[row, :n] = ids
    labels[row, :n] = ids
    labels[row, starts] = IGNORED
    lengths = np.diff(np.append(starts, n))
    position_ids[row, :n] = np.arange(n) - np.repeat(starts, lengths)


def filler(rows: int, block: int, eos_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """input_ids (EOS), labels (all ignored) and position_ids of rows that train nothing: int64 [rows, block]."""
    return (
        np.full((rows, block), eos_id, np.int64),
        np.full((rows, block), IGNORED, np.int64),
        np.tile(np.arange(block, dtype=np.int64), (rows, 1)),
    )
