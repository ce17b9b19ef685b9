"""What came of each document, and the numbers that sum it up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.artifacts.files import finite

RESAMPLES = 1_000
LEVEL = 0.95
_AT_ONCE = 1 << 22
"""Counts drawn at once, at most: bounds the memory of the bootstrap."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Targets that had from `low` to `high` tokens of their document in view. loss: nats, their sum."""

    low: int
    high: int
    tokens: int
    loss: float

    def to_json(self) -> dict[str, Any]:
        """As it lies in metrics.json, the loss a token."""
        return finite({"context": [self.low, self.high], "tokens": self.tokens, "eval_loss": self.loss / self.tokens})


@dataclass(frozen=True)
class Scores:
    """Sums a document, in the order of the documents, so that two models can be compared document by document.

    loss: nats, float64 [d]. tokens: targets, the EOS included, int64 [d]. correct: of these, how many the model put
    first, int64 [d]. bytes: UTF-8 bytes of the text, int64 [d]. unigram_loss: nats a token of all targets under
    their own frequencies. curve: loss by how much of the document was in view. predictions, references: every
    target's id and the one put first, int64 [t], if kept.
    """

    loss: Floats
    tokens: NDArray[np.int64]
    correct: NDArray[np.int64]
    bytes: NDArray[np.int64]
    unigram_loss: float
    curve: tuple[Stretch, ...] = ()
    predictions: NDArray[np.int64] | None = None
    references: NDArray[np.int64] | None = None

    def of(self, documents: NDArray[np.bool_]) -> Scores:
        """The scores of some of the documents, bool [d]; the baseline stays that of all, the rest is left out."""
        return Scores(
            loss=self.loss[documents],
            tokens=self.tokens[documents],
            correct=self.correct[documents],
            bytes=self.bytes[documents],
            unigram_loss=self.unigram_loss,
        )

    def summary(self, *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Any]:
        """Metrics over all tokens and their 95 % intervals, ready for strict JSON.

        Intervals are percentiles of a bootstrap over documents; `unigram_loss` stays fixed in it.
        """
        sums = np.stack([self.loss, self.tokens, self.correct, self.bytes]).astype(np.float64)
        ratios: dict[str, Callable[[Floats], Floats]] = {
            "eval_loss": lambda s: s[0] / s[1],
            "perplexity": lambda s: np.exp(s[0] / s[1]),
            "accuracy": lambda s: s[2] / s[1],
            "bits_per_byte": lambda s: s[0] / math.log(2) / s[3],
            "loss_over_unigram": lambda s: s[0] / s[1] / self.unigram_loss,
        }
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            whole = {name: float(ratio(sums.sum(axis=1))) for name, ratio in ratios.items()}
            drawn = resampled(sums, seed=seed, resamples=resamples)
            intervals = {name: ratio(drawn) for name, ratio in ratios.items()}
        answer = {
            **{name: whole[name] for name in ("eval_loss", "perplexity", "accuracy", "bits_per_byte")},
            "tokens": int(self.tokens.sum()),
            "documents": len(self.tokens),
            "bytes": int(self.bytes.sum()),
            "unigram_loss": self.unigram_loss,
            "loss_over_unigram": whole["loss_over_unigram"],
        }
        for name, values in intervals.items():
            answer.update(_interval(name, values, len(self.tokens)))
        return finite(answer)


def _interval(name: str, values: Floats, documents: int) -> dict[str, Any]:
    key = f"{name}_interval"
    if documents < 2:
        return {key: None, f"{key}_note": f"an interval needs at least 2 documents, found {documents}"}
    tail = (1 - LEVEL) / 2
    # Not np.quantile's interpolation: between a finite and an infinite value it gives NaN.
    low, high = (float(v) for v in np.quantile(values, [tail, 1 - tail], method="nearest"))
    if math.isfinite(low) and math.isfinite(high):
        return {key: [low, high]}
    bounds = [v if math.isfinite(v) else None for v in (low, high)]
    return {key: bounds, f"{key}_note": f"not numbers that JSON can carry: {low}, {high}"}


def resampled(sums: Floats, *, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Sums over documents drawn with replacement as often as there are documents: [k, d] → [k, resamples]."""
    documents = sums.shape[1]
    if not documents:
        return np.zeros((sums.shape[0], resamples))
    generator = np.random.default_rng(seed)
    even = np.full(documents, 1 / documents)
    step = max(1, _AT_ONCE // documents)
    parts = [
        sums @ generator.multinomial(documents, even, size=min(step, resamples - done)).T
        for done in range(0, resamples, step)
    ]
    return np.concatenate(parts, axis=1)


def curve(nats: Floats, context: NDArray[np.int64]) -> tuple[Stretch, ...]:
    """Loss by tokens in view, in stretches that double: 1, 2, 3 to 4, 5 to 8 …; those without targets are left out."""
    if not len(nats):
        return ()
    ends = 2 ** np.arange(int(context.max() - 1).bit_length() + 1)
    place = np.searchsorted(ends, context)
    tokens, loss = np.bincount(place, minlength=len(ends)), np.bincount(place, nats, minlength=len(ends))
    return tuple(
        Stretch(low=int(ends[i - 1]) + 1 if i else 1, high=int(ends[i]), tokens=int(tokens[i]), loss=float(loss[i]))
        for i in range(len(ends))
        if tokens[i]
    )


def unigram_loss(targets: NDArray[np.integer[Any]]) -> float:
    """Entropy of the targets' own frequencies, nats a token: what counting alone reaches; NaN without targets."""
    _, counts = np.unique(targets, return_counts=True)
    share = counts / max(1, len(targets))
    return float(-(share * np.log(share)).sum()) if len(targets) else math.nan
