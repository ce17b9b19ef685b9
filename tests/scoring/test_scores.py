"""Intervals by bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.scoring.scores import Scores, resampled, unigram_loss


def some_scores(documents: int, seed: int = 0) -> Scores:
    generator = np.random.default_rng(seed)
    tokens = generator.integers(1, 500, documents)
    loss = tokens * generator.normal(3.0, 0.5, documents)
    return Scores(loss, tokens, tokens // 3, tokens * 4, 5.0)


def test_the_same_seed_gives_the_same_intervals() -> None:
    scores = some_scores(40)
    assert scores.summary(seed=1) == scores.summary(seed=1)
    assert scores.summary(seed=1)["eval_loss_interval"] != scores.summary(seed=2)["eval_loss_interval"]


def test_intervals_hold_the_estimate_and_narrow_with_more_documents() -> None:
    few, many = some_scores(20).summary(), some_scores(2000).summary()
    for summary in (few, many):
        for name in ("eval_loss", "perplexity", "accuracy", "bits_per_byte", "loss_over_unigram"):
            low, high = summary[f"{name}_interval"]
            assert low <= summary[name] <= high
    widths = [s["eval_loss_interval"][1] - s["eval_loss_interval"][0] for s in (few, many)]
    assert widths[1] < widths[0] / 4


def test_the_interval_is_as_wide_as_theory_says() -> None:
    """Documents of equal length: the mean's standard error is the spread over √d."""
    losses = np.random.default_rng(3).normal(3.0, 0.5, 400)
    even = np.full(400, 100)
    low, high = Scores(losses * 100, even, even, even, 1.0).summary()["eval_loss_interval"]
    assert (high - low) / 2 == pytest.approx(1.96 * losses.std() / 20, rel=0.1)


def test_resampling_in_parts_draws_as_many_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.scoring.scores._AT_ONCE", 64)
    drawn = resampled(np.ones((1, 30)), seed=0, resamples=101)
    assert drawn.shape == (1, 101) and (drawn == 30).all()


def test_one_token_over_and_over_has_no_entropy() -> None:
    assert unigram_loss(np.zeros(9, np.int64)) == 0
    assert unigram_loss(np.arange(8)) == pytest.approx(np.log(8))
