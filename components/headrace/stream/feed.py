"""What lanes read from: rows of text that are encoded on the way."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.stream.documents import Reader
from headrace.stream.heldout import content_hash, is_blank
from headrace.stream.lane import Encoded
from headrace.stream.order import Piece
from headrace.stream.tokenizer import Encoder


def with_ends(ids: NDArray[np.int32], offsets: NDArray[np.int64], eos_id: int) -> Encoded:
    """Documents as flat ids and offsets, each with its EOS; documents without tokens stay without."""
    lengths = np.diff(offsets)
    kept = lengths > 0
    ends = np.cumsum(lengths + kept)
    flat = np.full(int(ends[-1]) if len(ends) else 0, eos_id, np.int32)
    is_token = np.ones(len(flat), bool)
    is_token[ends[kept] - 1] = False
    flat[is_token] = ids
    return Encoded(flat, ends)


class TextFeed:
    """Documents of a text column: blank and held-out ones dropped and counted, the others encoded."""

    def __init__(self, reader: Reader, encoder: Encoder, heldout: frozenset[int] = frozenset()) -> None:
        self._reader, self._encoder, self._heldout = reader, encoder, heldout
        self._lock = threading.Lock()
        self.dropped: Counter[str] = Counter()
        """Rows by the reason they were not trained: blank, heldout, no_tokens."""

    def read(self, pieces: Sequence[Piece]) -> pa.Table:
        """The rows of a window."""
        return self._reader.read(pieces)

    def sizes(self, rows: pa.Table) -> NDArray[np.int64]:
        """Bytes of each row's text, at least 1."""
        sizes: NDArray[np.int64] = pc.fill_null(pc.binary_length(rows.column(0)), 0).to_numpy().astype(np.int64)
        return np.maximum(sizes, 1)

    def encode(self, rows: pa.Table) -> Encoded:
        """Ids of these rows' documents."""
        texts = [self._keep(t) for t in rows.column(0).to_pylist()]
        ids, offsets = self._encoder.encode(texts)
        encoded = with_ends(ids, offsets, self._encoder.eos_id)
        empty = np.diff(offsets) == 0
        with self._lock:
            self.dropped["no_tokens"] += sum(bool(t) and bool(e) for t, e in zip(texts, empty, strict=True))
        return encoded

    def _keep(self, text: str | None) -> str:
        if text is None or is_blank(text):
            return self._drop("blank")
        if self._heldout and content_hash(text) in self._heldout:
            return self._drop("heldout")
        return text

    def _drop(self, reason: str) -> str:
        with self._lock:
            self.dropped[reason] += 1
        return ""
