"""What lanes read from: rows of text that are encoded on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.stream.documents import Reader
from headrace.stream.duplicates import Duplicates
from headrace.stream.filters import Filter, first_refusal
from headrace.stream.heldout import content_hash, is_blank
from headrace.stream.order import Piece
from headrace.stream.tokenizer import Encoder
from headrace.stream.windows import Encoded, ReadWindow

DUPLICATE = "duplicate"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which rows are trained, besides those that are blank.

    heldout: content hashes of documents that are not. dedup: drop copies within a window, or those that `duplicates`
    has. The reasons that rows are dropped for are counted under their names.
    """

    heldout: frozenset[int] = frozenset()
    filters: tuple[Filter, ...] = ()
    dedup: Literal["", "row_window", "dataset"] = ""
    duplicates: Duplicates | None = None

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        """Names of the reasons, by their numbers; the first is none."""
        return ("", *map(str, self.filters), DUPLICATE)

    def refused(self, rows: pa.Table, pieces: Sequence[Piece]) -> NDArray[np.int64]:
        """The number of the reason that each row is dropped for, 0 where it is kept: int64 [rows]."""
        found = first_refusal(self.filters, rows) if self.filters else np.zeros(rows.num_rows, np.int64)
        if self.duplicates is not None:
            found[(found == 0) & self.duplicates.dropped(pieces)] = len(self.reasons) - 1
        if self.dedup == "row_window":
            texts = [t or "" for t in rows.column(0).to_pylist()]
            self.drop_copies(found, [0 if is_blank(t) else content_hash(t) for t in texts])
        return found

    def drop_copies(self, refused: NDArray[np.int64], hashes: Sequence[int]) -> None:
        """Refuse kept rows whose content, told by its hash, 0 for none, a kept row before them has."""
        seen: set[int] = set()
        for row, content in enumerate(hashes):
            if content and not refused[row]:
                if content in seen:
                    refused[row] = len(self.reasons) - 1
                seen.add(content)


EVERYTHING = Choice()


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
    """Documents of a text column: those that are chosen, encoded; the others dropped and counted."""

    def __init__(self, reader: Reader, encoder: Encoder, choice: Choice = EVERYTHING) -> None:
        self._reader, self._encoder, self._choice = reader, encoder, choice

    def lane(self) -> ReadWindow:
        """A reader for one lane."""
        run = self._reader.run()

        def read(pieces: Sequence[Piece], order: NDArray[np.int64]) -> TextWindow:
            rows = run.read(pieces)
            return TextWindow(rows.column(0), self._choice.refused(rows, pieces), order, self._encoder, self._choice)

        return read


class TextWindow:
    """Texts in the order in which they are trained."""

    def __init__(
        self,
        texts: pa.ChunkedArray,
        refused: NDArray[np.int64],
        order: NDArray[np.int64],
        encoder: Encoder,
        choice: Choice,
    ) -> None:
        self._texts, self._order = texts.combine_chunks(), order
        self._refused = refused[order] if refused.any() else None
        sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy().astype(np.int64)
        self.upto: NDArray[np.int64] = np.cumsum(np.maximum(sizes, 1)[order])
        self._encoder, self._choice = encoder, choice

    def encode(self, start: int, stop: int) -> Encoded:
        """Ids of these documents; dropped ones have none."""
        dropped: Counter[str] = Counter()
        # Python's strings take more room than Arrow's: only those that are encoded now are made.
        texts: list[str | None] = self._texts.take(self._order[start:stop]).to_pylist()
        if self._refused is not None:
            for i in np.flatnonzero(self._refused[start:stop]).tolist():
                texts[i] = ""
                dropped[self._choice.reasons[self._refused[start + i]]] += 1
        refused = sum(dropped.values())
        kept = [self._keep(text, dropped) for text in texts]
        dropped["blank"] -= refused  # those are blank now, and counted
        ids, offsets = self._encoder.encode(kept)
        empty = np.diff(offsets) == 0
        if empty.any():
            dropped["no_tokens"] += sum(bool(t) for t, e in zip(kept, empty.tolist(), strict=True) if e)
        return with_ends(ids, offsets, self._encoder.eos_id, +dropped)

    def _keep(self, text: str | None, dropped: Counter[str]) -> str:
        if text is None or is_blank(text):
            dropped["blank"] += 1
        elif self._choice.heldout and content_hash(text) in self._choice.heldout:
            dropped["heldout"] += 1
        else:
            return text
        return ""
