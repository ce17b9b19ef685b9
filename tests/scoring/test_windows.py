"""Every token of every document is a target exactly once, whatever the block."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.scoring.windows import IGNORED, cut
from tests.scoring.small import encoder

TEXTS = st.lists(st.text(alphabet="ab é\n<|endoftext|>", max_size=40), max_size=8)


@given(TEXTS, st.integers(1, 12))
def test_windows_cover_each_document_once_and_in_order(texts: list[str], block: int) -> None:
    windows = cut(encoder(), texts, block)
    ids, offsets = encoder().encode(texts)
    eos = encoder().eos_id
    for document in range(len(texts)):
        expected = [eos, *ids[offsets[document] : offsets[document + 1]].tolist(), eos]
        mine = np.flatnonzero(windows.document == document)
        inputs, labels = zip(*(windows.rows(mine[i : i + 1]) for i in range(len(mine))), strict=True)
        assert np.concatenate(inputs, axis=1)[0].tolist() == expected[:-1]
        assert np.concatenate(labels, axis=1)[0].tolist() == expected[1:]
    assert (windows.length <= block).all() and (windows.length > 0).all()
    assert windows.length.sum() == len(windows.targets)


@given(TEXTS, st.integers(1, 12), st.integers(1, 40))
def test_batches_hold_each_window_once_the_longest_first_and_as_many_as_fit(
    texts: list[str], block: int, size: int
) -> None:
    windows = cut(encoder(), texts, block)
    batches = windows.batches(size)
    assert sorted(int(i) for batch in batches for i in batch) == list(range(len(windows)))
    for batch, following in pairwise([*batches, np.empty(0, np.int64)]):
        longest = int(windows.length[batch].max())
        assert len(batch) * longest <= max(size, longest)
        assert not len(following) or (len(batch) + 1) * longest > size
    lengths = [int(windows.length[i]) for batch in batches for i in batch]
    assert lengths == sorted(lengths, reverse=True)


@given(TEXTS, st.integers(1, 12))
def test_a_window_begins_with_the_token_before_its_first_target_in_view(texts: list[str], block: int) -> None:
    windows = cut(encoder(), texts, block)
    counted = [c for n in windows.length for c in range(1, int(n) + 1)]
    assert windows.context.tolist() == counted


def test_padding_is_on_the_right_and_known_by_its_place() -> None:
    windows = cut(encoder(), ["", "a b"], 16)
    inputs, labels = windows.rows(np.array([1, 0]))
    eos = encoder().eos_id
    assert inputs.shape == labels.shape == (2, int(windows.length[1]))
    assert labels[1].tolist() == [eos, *[IGNORED] * (inputs.shape[1] - 1)]
    assert labels[0, -1] == eos


def test_no_documents_make_no_windows() -> None:
    windows = cut(encoder(), [], 8)
    assert len(windows) == 0 and windows.batches(4) == [] and len(windows.targets) == 0
