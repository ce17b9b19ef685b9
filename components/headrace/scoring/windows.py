"""Documents as windows of tokens, each token a target exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.stream.tokenizer import Encoder

IGNORED = -100
"""The label of a position that is no target: padding."""
_ROWS = 128
"""Windows a micro-batch at most: the logits of one position of each are in memory at once."""


@dataclass(frozen=True)
class Windows:
    """Windows over `EOS d₀ EOS d₁ EOS …`: the EOS that ends a document is a target, and opens the next one.

    tokens: int32 [t + 1]; tokens[i] is the input whose target is tokens[i + 1].
    start, length, document: int64 [n]; first input, number of inputs and document of each window, in document order.
    """

    tokens: NDArray[np.int32]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    document: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start)

    @property
    def targets(self) -> NDArray[np.int32]:
        """Every target, int32 [t], in document order."""
        return self.tokens[1:]

    @property
    def context(self) -> NDArray[np.int64]:
        """Tokens in view of each target, itself not among them: int64 [t], from 1, in document order."""
        return np.arange(1, len(self.tokens)) - np.repeat(self.start, self.length)

    def batches(self, positions: int) -> list[NDArray[np.int64]]:
        """Indices of windows, as many whole ones as fill so many positions, padding included.

        The longest first: little padding, and want of memory shows at once.
        """
        order = np.argsort(-self.length, kind="stable")
        found, at = [], 0
        while at < len(order):
            rows = min(_ROWS, max(1, positions // int(self.length[order[at]])))
            found.append(order[at : at + rows])
            at += rows
        return found

    def places(self, batch: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where in `targets` each position of a padded batch lies, int64 [b, m], and which are real, bool [b, m]."""
        columns = np.arange(int(self.length[batch].max()))
        real = columns < self.length[batch][:, None]
        return np.where(real, self.start[batch][:, None] + columns, 0), real

    def rows(self, batch: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Inputs and labels of a batch, int64 [b, m], padded on the right; labels of padding are `IGNORED`.

        What is padding is known by its place, never by its id: a real EOS stays a target where it is also the pad.
        """
        places, real = self.places(batch)
        inputs = np.where(real, self.tokens[places], self.tokens[0])
        labels = np.where(real, self.tokens[places + 1], IGNORED)
        return inputs.astype(np.int64), labels.astype(np.int64)


def cut(encoder: Encoder, texts: Sequence[str], block: int) -> Windows:
    """Windows of at most `block` inputs over some documents; a document's windows follow each other without overlap."""
    ids, offsets = encoder.encode(texts)
    documents = np.arange(len(texts))
    tokens = np.insert(ids, offsets, encoder.eos_id).astype(np.int32)
    inputs = np.diff(offsets) + 1
    first = offsets[:-1] + documents
    count = -(-inputs // block)
    document = np.repeat(documents, count)
    nth = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    length = np.minimum(block, inputs[document] - nth * block)
    return Windows(tokens, first[document] + nth * block, length, document)
