"""Where a model does well and where not: its scores by source, by length of document and by tokens in view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.scoring.scores import Scores

LENGTHS = (64, 256, 1_024, 4_096, 16_384)
"""Tokens of a document, its EOS included: a bucket ends with each of these, the last one has no end."""
_KEPT = ("eval_loss", "eval_loss_interval", "perplexity", "accuracy", "bits_per_byte", "tokens", "documents")


def parts(scores: Scores, sources: Sequence[str], *, seed: int) -> dict[str, Any]:
    """`by_source`, `by_length` and `by_position` as they lie in metrics.json; parts without documents are left out."""
    names = np.array(sources, dtype=object)
    ends = np.searchsorted(LENGTHS, scores.tokens)
    bounds = [*zip((1, *(n + 1 for n in LENGTHS)), (*LENGTHS, None), strict=True)]
    return {
        "by_source": [
            {"source": name, **_summary(scores, names == name, seed)} for name in dict.fromkeys(sorted(sources))
        ],
        "by_length": [
            {"length": list(bounds[i]), **_summary(scores, ends == i, seed)} for i in sorted(set(ends.tolist()))
        ],
        "by_position": [stretch.to_json() for stretch in scores.curve],
    }


def _summary(scores: Scores, documents: NDArray[np.bool_], seed: int) -> dict[str, Any]:
    """The summary of some documents, with the notes on what could not be said."""
    found = scores.of(documents).summary(seed=seed)
    return {k: v for k, v in found.items() if k.removesuffix("_note") in _KEPT}
