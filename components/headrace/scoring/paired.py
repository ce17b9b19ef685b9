"""Two models on the same documents: how much better one is, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.scoring.scores import Floats, resampled

CONFIDENCE = 0.95
"""Of each bound by itself: the true difference lies above the upper one in 5 % of slices."""
RESAMPLES = 10_000
FEWEST_DOCUMENTS = 8
"""Of fewer documents a bootstrap says nothing that may be relied on."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Loss of a model minus that of another, nats a token of the first; below 0 it is the better one.

    low, high: one-sided bounds, each at `CONFIDENCE`.
    """

    nats: float
    low: float
    high: float
    documents: int

    def to_json(self) -> dict[str, Any]:
        """As it lies in metrics.json; bounds that are not finite are null."""
        bounds = [v if math.isfinite(v) else None for v in (self.low, self.high)]
        return {
            "difference": self.nats,
            "interval": bounds,
            "confidence": CONFIDENCE,
            "documents": self.documents,
        }


def difference(
    loss: Floats, other: Floats, tokens: NDArray[np.int64], *, seed: int = 0, resamples: int = RESAMPLES
) -> Difference:
    """The difference of two models' losses with bounds from a studentised bootstrap over documents.

    loss, other: nats a document, float64 [d]. tokens: of the first model, int64 [d], the weight of each document.
    Documents are drawn whole: tokens of one document are not independent. Each draw is divided by its own standard
    error (Efron and Tibshirani, An Introduction to the Bootstrap, 12.5); the further of both tails, times the
    jackknife's error, bounds both sides. Percentiles of the draws alone are too narrow where few documents of unequal
    length weigh most. ValueError with fewer than `FEWEST_DOCUMENTS`.
    """
    documents = len(loss)
    if documents < FEWEST_DOCUMENTS:
        raise ValueError(f"{documents} documents are too few for a bootstrap")
    x, t = (loss - other).astype(np.float64), tokens.astype(np.float64)
    nats = float(x.sum() / t.sum())
    sums = resampled(np.stack([x, t, x * x, x * t, t * t]), seed=seed, resamples=resamples)
    drawn, errors = _ratio(sums, documents)
    with np.errstate(divide="ignore", invalid="ignore"):
        studentised = (drawn - nats) / errors
    # A draw of one document over and over has no error: 0/0 says nothing, and anything else is an extreme.
    studentised[np.isnan(studentised)] = 0.0
    left, right = np.quantile(studentised, [1 - CONFIDENCE, CONFIDENCE], method="nearest")
    error = _jackknife(x, t, nats)
    half = max(-float(left), float(right)) * error if error else 0.0
    return Difference(nats=nats, low=nats - half, high=nats + half, documents=documents)


def _ratio(sums: Floats, documents: int) -> tuple[Floats, Floats]:
    """Σx/Σt and its standard error, linearised, from Σx, Σt, Σx², Σxt and Σt²: [5, k] → [k], [k]."""
    x, t, xx, xt, tt = sums
    ratio = x / t
    spread = np.maximum(xx - 2 * ratio * xt + ratio * ratio * tt, 0.0)
    return ratio, np.sqrt(spread * documents / (documents - 1)) / t


def _jackknife(x: Floats, t: Floats, ratio: float) -> float:
    """The standard error of Σx/Σt, from what it would be without each of the pairs."""
    without = (x - ratio * t) / (t.sum() - t)
    return float(np.sqrt((len(x) - 1) / len(x) * (without * without).sum()))
