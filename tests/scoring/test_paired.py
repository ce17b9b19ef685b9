"""How sure a difference of two models is: how often the gate errs, and how often it sees what is there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.scoring.paired import CONFIDENCE, FEWEST_DOCUMENTS, difference

MARGIN = 0.01
SEEDS = 200


def slice_of(
    documents: int, truly: float, seed: int, heavy: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Losses of two models whose difference is known, on documents of very unequal length.

    Its spread a document falls with length, as losses of tokens average out; with heavy tails three degrees of freedom.
    """
    generator = np.random.default_rng([seed, documents])
    tokens = np.clip(generator.lognormal(5.5, 1.2, documents), 4, 20_000).astype(np.int64)
    noise = generator.standard_t(3, documents) * 0.02 if heavy else generator.normal(0, 0.03, documents)
    other = tokens * generator.normal(3.0, 0.5, documents)
    return other + tokens * (truly + noise / np.sqrt(tokens / 300).clip(0.3, 3)), other, tokens


def promoted(documents: int, truly: float, heavy: bool) -> float:
    """The share of slices on which a model may follow another that it is truly worse than by so much."""
    found = [
        difference(*slice_of(documents, truly, seed, heavy), seed=seed, resamples=1_000).high <= MARGIN
        for seed in range(SEEDS)
    ]
    return float(np.mean(found))


def test_false_promotions_are_no_more_than_the_stated_level() -> None:
    """A model worse by just what is allowed may pass in 5 % of slices at most; one that is worse yet, never."""
    rates = {(n, heavy): promoted(n, MARGIN, heavy) for n in (12, 50, 200) for heavy in (False, True)}
    # Of 200 draws at 5 % each, 8.1 % is two standard errors off.
    assert np.mean([*rates.values()]) <= 1 - CONFIDENCE and max(rates.values()) <= 0.081, rates
    assert promoted(200, 3 * MARGIN, heavy=True) == 0


def test_what_is_as_good_is_promoted_when_the_slice_is_large_enough() -> None:
    """Power of the gate with the default margin, in 200 slices each: it grows with the documents."""
    few, some, many = (promoted(n, 0.0, heavy=False) for n in (12, 50, 200))
    assert few < some < many and many >= 0.99 and some >= 0.8, (few, some, many)
    assert promoted(200, -MARGIN, heavy=True) >= 0.99


def test_the_same_scores_differ_by_nothing() -> None:
    loss, _, tokens = slice_of(40, 0.0, 1, False)
    found = difference(loss, loss, tokens)
    assert (found.nats, found.low, found.high) == (0, 0, 0)


NATS = st.floats(-50, 50)


@settings(max_examples=30)
@given(st.lists(st.tuples(NATS, NATS, st.integers(1, 900)), min_size=FEWEST_DOCUMENTS, max_size=40))
def test_turned_around_it_is_the_negative(pairs: list[tuple[float, float, int]]) -> None:
    mine, other, tokens = (np.array(column) for column in zip(*pairs, strict=True))
    one, two = (difference(a, b, tokens, resamples=200) for a, b in ((mine, other), (other, mine)))
    assert one.nats == pytest.approx(-two.nats, abs=1e-12)
    assert one.low <= one.nats <= one.high
    assert one.high - one.nats == pytest.approx(one.nats - one.low, abs=1e-9)


def test_the_seed_decides_the_interval() -> None:
    drawn = slice_of(60, 0.0, 3, False)
    assert difference(*drawn, seed=1) == difference(*drawn, seed=1) != difference(*drawn, seed=2)


def test_few_documents_say_nothing() -> None:
    with pytest.raises(ValueError, match="7 documents are too few"):
        difference(*slice_of(7, 0.0, 1, False))
