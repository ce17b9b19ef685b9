"""Tokens of documents, counted without holding all their ids."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.stream.tokenizer import Encoder

ENCODED_AT_ONCE = 4 << 20
"""Text bytes encoded together: the ids of all rows of a large row group would not fit."""
CUT_CHARACTERS = 4 << 20
"""Longer documents are encoded in pieces of about so many characters; the count may then be off by a few tokens."""
PROOF_DOCUMENTS, PROOF_CHARACTERS = 32, 8_000
"""Of the first documents, to prove a fast tokenizer on: it is measured as training will use it."""
_WORD = re.compile(r"\S(?=\s)")


class TokenCounter:
    """Counts tokens, and how often each id occurs. seconds: what encoding took; cut: documents encoded in pieces."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.ids: NDArray[np.int64] = np.zeros(max(1, encoder.size), np.int64)
        self.seconds, self.cut = 0.0, 0
        self._proven = False

    @property
    def tokens(self) -> int:
        """Tokens counted so far."""
        return int(self.ids.sum())

    @property
    def distinct(self) -> int:
        """Ids of the vocabulary that occurred."""
        return int((self.ids > 0).sum())

    @property
    def unknown(self) -> int | None:
        """Tokens that stand for what the vocabulary lacks; None where there is no such token."""
        unknown = self._encoder.unknown_id
        return None if unknown is None else int(self.ids[unknown])

    @property
    def single_bytes(self) -> int | None:
        """Tokens for a single byte that the vocabulary fell back to; None where it does not."""
        ids = list(self._encoder.byte_ids)
        return int(self.ids[ids].sum()) if ids else None

    def lengths(self, documents: Sequence[str], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens of each document of so many bytes, without the end-of-text token: int64 [documents]."""
        found = np.zeros(len(documents), np.int64)
        if not self._proven and documents:
            self._encoder.accelerate([t[:PROOF_CHARACTERS] for t in documents[:PROOF_DOCUMENTS]])
            self._proven = True
        start = 0
        while start < len(documents):
            end, size = start + 1, int(sizes[start])
            while end < len(documents) and size + int(sizes[end]) <= ENCODED_AT_ONCE:
                size += int(sizes[end])
                end += 1
            if end == start + 1 and len(documents[start]) > CUT_CHARACTERS:
                self.cut += 1
                found[start] = sum(int(self._encode([piece]).sum()) for piece in pieces(documents[start]))
            else:
                found[start:end] = self._encode(documents[start:end])
            start = end
        return found

    def _encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        began = time.perf_counter()
        ids, offsets = self._encoder.encode(texts)
        self.seconds += time.perf_counter() - began
        counted = np.bincount(ids, minlength=len(self.ids))
        self.ids[: len(counted)] += counted[: len(self.ids)]
        return np.diff(offsets)


def pieces(text: str, characters: int = CUT_CHARACTERS) -> Iterator[str]:
    """A long text in pieces that together are the text, cut before white space where there is any near."""
    start = 0
    while len(text) - start > characters:
        found = _WORD.search(text, start + characters, min(len(text), start + characters + (1 << 16)))
        end = found.end() if found else start + characters
        yield text[start:end]
        start = end
    yield text[start:]
