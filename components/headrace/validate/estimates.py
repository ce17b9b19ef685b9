"""From the rows looked at to numbers about the whole dataset."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.stream.heldout import HeldOut
from headrace.stream.manifest import Manifest
from headrace.stream.plan import Plan
from headrace.validate.scan import Scan

_BINS = 24
_PERCENTILES = (1, 5, 50, 95, 99)


def estimates(manifest: Manifest, found: Scan, heldout: HeldOut | None, plan: Plan | None) -> dict[str, Any]:
    """Tokens, documents and blocks of the whole dataset; exact where every row was read.

    Tokens include one end-of-text token a document, as they are trained.
    """
    tokens, interval = whole_tokens(manifest, found)
    documents = _scaled(manifest.rows, sum(g.documents * g.rows / g.looked for g in found.groups), found)
    heldout_tokens = heldout_share(found, heldout, tokens, documents)
    trained = max(0, tokens - heldout_tokens)
    answer: dict[str, Any] = {
        "exact": found.complete and not found.cut,
        "tokens": tokens,
        "tokens_interval": interval,
        "documents": documents,
        "tokens_per_document": _ratio(float(found.tokens.sum()), len(found.tokens)),
        "tokens_per_byte": _ratio(float(found.tokens.sum()), float(found.sizes.sum())),
        "heldout_tokens": heldout_tokens,
        "train_tokens": trained,
    }
    if plan is not None:
        blocks = trained // plan.block
        answer.update(
            block=plan.block, blocks=blocks, global_batch=plan.global_batch,
            steps_per_epoch=math.ceil(blocks / plan.global_batch),
        )  # fmt: skip
    return answer


def whole_tokens(manifest: Manifest, found: Scan) -> tuple[int, list[int] | None]:
    """Tokens of the whole dataset and their 95 % interval, by the ratio of tokens to text bytes of row groups.

    The interval treats the row groups as a random sample of clusters (linearised ratio estimator; Cochran, Sampling
    Techniques, 6.4), which also covers that only some of their rows were looked at; None for fewer than two.
    """
    scaled = np.array([g.tokens * g.rows / g.looked for g in found.groups])
    if found.complete:
        exact = int(sum(g.tokens for g in found.groups))
        return exact, [exact, exact]
    sizes = np.array([max(1, g.text_bytes) for g in found.groups], float)
    if not len(sizes):
        return 0, None
    ratio = scaled.sum() / sizes.sum()
    estimate = ratio * manifest.text_bytes
    n, looked = len(sizes), sum(g.looked for g in found.groups)
    if n < 2:
        return round(estimate), None
    residuals = scaled - ratio * sizes
    unseen = max(0.0, 1 - looked / max(1, manifest.rows))
    variance = n / (n - 1) * float(residuals @ residuals) * unseen / sizes.sum() ** 2
    half = 1.96 * math.sqrt(variance) * manifest.text_bytes
    return round(estimate), [max(0, round(estimate - half)), round(estimate + half)]


def heldout_share(found: Scan, heldout: HeldOut | None, tokens: int, documents: int) -> int:
    """Tokens that training leaves out because their documents, or copies of them, are held out."""
    if heldout is None or not heldout.hashes:
        return 0
    if found.complete:
        held = np.isin(found.hashes, np.fromiter(heldout.hashes, np.uint64, len(heldout.hashes)))
        return int((found.tokens[held] + (found.tokens[held] > 0)).sum())
    return round(tokens * min(1.0, len(heldout.hashes) / max(1, documents)))


def _scaled(rows: int, documents: float, found: Scan) -> int:
    looked = sum(g.rows for g in found.groups)
    return round(documents * rows / looked) if looked else 0


def _ratio(above: float, below: float) -> float | None:
    return above / below if below else None


def distribution(values: NDArray[Any], digits: int | None = None) -> dict[str, float | int | None]:
    """Percentiles of some values, and the largest; empty without any."""
    if not len(values):
        return {}
    found = {f"p{p}": float(v) for p, v in zip(_PERCENTILES, np.percentile(values, _PERCENTILES), strict=True)}
    found["max"] = float(values.max())
    return {k: round(v, digits) if digits else round(v) for k, v in found.items()}


def histograms(found: Scan) -> dict[str, Any]:
    """Counts of documents by length in tokens (logarithmic bins) and by tokens a byte, for charts."""
    kept = found.tokens > 0
    if not kept.any():
        return {}
    tokens, density = found.tokens[kept], found.tokens[kept] / found.sizes[kept]
    low, high = float(tokens.min()), float(tokens.max())
    edges = np.geomspace(max(0.7, low * 0.98), high * 1.02, _BINS + 1)
    # A few odd documents must not squeeze all others into one bin.
    ends = np.percentile(density, [0.5, 99.5])
    ends = ends if ends[1] > ends[0] else ends * [0.9, 1.1]
    return {
        "document_tokens": _histogram(tokens, edges),
        "tokens_per_byte": _histogram(np.clip(density, *ends), np.linspace(ends[0], ends[1], _BINS + 1)),
    }


def _histogram(values: NDArray[Any], edges: NDArray[np.float64]) -> dict[str, Any]:
    counts, _ = np.histogram(values, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist(), "median": float(np.median(values))}
