"""What lanes read from: rows of text that are encoded on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.stream.documents import Reader
from headrace.stream.heldout import content_hash, is_blank
from headrace.stream.order import Piece
from headrace.stream.tokenizer import Encoder
from headrace.stream.windows import Encoded, ReadWindow


def with_ends(
    ids: NDArray[np.int32], offsets: NDArray[np.int64], eos_id: int, dropped: Mapping[str, int] | None = None
) -> Encoded:
    """Documents as flat ids and offsets, each with its EOS; documents without tokens stay without."""
    lengths = np.diff(offsets)
    kept = lengths > 0
    ends = np.cumsum(lengths + kept)
    flat = np.empty(int(ends[-1]) if len(ends) else 0, np.int32)
    is_token = np.ones(len(flat), bool)
    is_token[ends[kept] - 1] = False
    flat[is_token] = ids
    flat[ends[kept] - 1] = eos_id
    return Encoded(flat, ends, dropped or {})


class TextFeed:
    """Documents of a text column: blank and held-out ones dropped and counted, the others encoded."""

    def __init__(self, reader: Reader, encoder: Encoder, heldout: frozenset[int] = frozenset()) -> None:
        self._reader, self._encoder, self._heldout = reader, encoder, heldout

    def lane(self) -> ReadWindow:
        """A reader for one lane."""

        def read(pieces: Sequence[Piece], order: NDArray[np.int64]) -> TextWindow:
            return TextWindow(self._reader.read(pieces).column(0), order, self._encoder, self._heldout)

        return read


class TextWindow:
    """Texts in the order in which they are trained."""

    def __init__(
        self, texts: pa.ChunkedArray, order: NDArray[np.int64], encoder: Encoder, heldout: frozenset[int]
    ) -> None:
        found = texts.to_pylist()
        self._texts: list[str | None] = [found[i] for i in order.tolist()]
        sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy().astype(np.int64)
        self.upto: NDArray[np.int64] = np.cumsum(np.maximum(sizes, 1)[order])
        self._encoder, self._heldout = encoder, heldout

    def encode(self, start: int, stop: int) -> Encoded:
        """Ids of these documents; blank and held-out ones have none."""
        dropped: Counter[str] = Counter()
        texts = [self._keep(text, dropped) for text in self._texts[start:stop]]
        ids, offsets = self._encoder.encode(texts)
        empty = np.diff(offsets) == 0
        if empty.any():
            dropped["no_tokens"] += sum(bool(t) for t, e in zip(texts, empty.tolist(), strict=True) if e)
        return with_ends(ids, offsets, self._encoder.eos_id, +dropped)

    def _keep(self, text: str | None, dropped: Counter[str]) -> str:
        if text is None or is_blank(text):
            dropped["blank"] += 1
        elif self._heldout and content_hash(text) in self._heldout:
            dropped["heldout"] += 1
        else:
            return text
        return ""
