"""What a model sees of a sample: every token in its place, documents apart, filler trained by nobody."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.stream.feed import with_ends
from headrace.stream.packing import IGNORED, place

EOS = 7


@given(st.lists(st.integers(1, 9), max_size=6), st.integers(0, 5))
def test_a_row_is_what_the_definition_says(lengths: list[int], rest: int) -> None:
    n = sum(lengths)
    block = n + rest or 1
    ids = np.arange(100, 100 + n, dtype=np.int32)
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    whole = place([(ids, starts)], 2, block, EOS)
    input_ids, labels, positions = (a[0] for a in whole)
    assert [a[1].tolist() for a in whole] == [
        [EOS] * block,
        [IGNORED] * block,
        list(range(block)),
    ]  # nothing but filler
    assert input_ids.tolist() == ids.tolist() + [EOS] * (block - n)
    assert labels.tolist() == [IGNORED if i in starts else 100 + i for i in range(n)] + [IGNORED] * (block - n)
    within = [i for length in [*lengths, block - n] for i in range(length)]
    assert positions.tolist() == within


@given(st.lists(st.lists(st.integers(10, 99), max_size=5), max_size=8))
def test_every_document_is_followed_by_its_end(documents: list[list[int]]) -> None:
    flat = np.array([t for d in documents for t in d], np.int32)
    offsets = np.array([0, *np.cumsum([len(d) for d in documents])], np.int64)
    encoded = with_ends(flat, offsets, EOS)
    starts = [0, *encoded.ends.tolist()[:-1]]
    found = [encoded.ids[a:b].tolist() for a, b in zip(starts, encoded.ends.tolist(), strict=False)]
    assert found == [[*d, EOS] if d else [] for d in documents]


def test_the_end_of_a_document_is_a_target_and_its_beginning_is_not() -> None:
    """D3: two documents in a block. The second's first token is not guessed from the first's end."""
    ids = np.array([11, 12, EOS, 21, EOS, 31], np.int32)
    rows = place([(ids[:1], [0]), (ids, [0, 3, 5])], 2, 6, EOS)
    assert rows.labels[1].tolist() == [IGNORED, 12, EOS, IGNORED, EOS, IGNORED]
    assert rows.position_ids[1].tolist() == [0, 1, 2, 0, 1, 0]
