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
    of_documents, of_bytes = per_document(manifest, found), per_byte(manifest, found)
    documents = _scaled(manifest.rows, sum(g.documents * g.rows / g.looked for g in found.groups), found)
    heldout_tokens = heldout_share(found, heldout, tokens, documents)
    trained = max(0, tokens - heldout_tokens)
    answer: dict[str, Any] = {
        "exact": found.complete and not found.cut,
        "tokens": tokens,
        "tokens_interval": interval,
        "documents": documents,
        "tokens_per_document": of_documents[0],
        "tokens_per_document_interval": of_documents[1],
        "tokens_per_byte": of_bytes[0],
        "tokens_per_byte_interval": of_bytes[1],
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
    """Tokens of the whole dataset and their 95 % interval, by the ratio of tokens to text bytes of row groups."""
    scaled = np.array([g.tokens * g.rows / g.looked for g in found.groups])
    if found.complete:
        exact = int(sum(g.tokens for g in found.groups))
        return exact, [exact, exact]
    sizes = np.array([max(1, g.text_bytes) for g in found.groups], float)
    if not len(sizes):
        return 0, None
    estimate = scaled.sum() / sizes.sum() * manifest.text_bytes
    if _clustered(manifest, found):
        share = half_width(scaled, sizes, _unseen(manifest, found))
    else:  # tokens a row, of which many have no document
        rows = np.zeros(max(found.rows, len(found.tokens)))
        rows[: len(found.tokens)] = found.tokens + (found.tokens > 0)
        share = half_width(rows, np.ones(len(rows)), _unseen(manifest, found))
    if share is None:
        return round(estimate), None
    return round(estimate), [max(0, round(estimate * (1 - share))), round(estimate * (1 + share))]


def per_document(manifest: Manifest, found: Scan) -> tuple[float | None, list[float] | None]:
    """Tokens a document, and their 95 % interval."""
    return _mean(manifest, found, np.ones(len(found.tokens)))


def per_byte(manifest: Manifest, found: Scan) -> tuple[float | None, list[float] | None]:
    """Tokens a byte of text, and their 95 % interval."""
    return _mean(manifest, found, found.sizes.astype(float))


def _mean(manifest: Manifest, found: Scan, below: NDArray[np.float64]) -> tuple[float | None, list[float] | None]:
    above = found.tokens.astype(float)
    if not below.sum():
        return None, None
    mean = float(above.sum() / below.sum())
    if found.complete:
        return mean, [mean, mean]
    if _clustered(manifest, found):
        groups, n = _groups_of(found), len(found.groups)
        above, below = np.bincount(groups, above, n).astype(float), np.bincount(groups, below, n).astype(float)
    share = half_width(above, below, _unseen(manifest, found))
    return mean, None if share is None else [max(0.0, mean * (1 - share)), mean * (1 + share)]


def half_width(above: NDArray[Any], below: NDArray[Any], unseen: float) -> float | None:
    """Half of the 95 % interval of a ratio of sums over a random sample, as a share of it; None for fewer than two.

    The linearised ratio estimator (Cochran, Sampling Techniques, 6.4), with Student's t for small samples; unseen: the
    share of everything that was not looked at.
    """
    n = len(above)
    if n < 2 or not above.sum():
        return None
    ratio = above.sum() / below.sum()
    residuals = above - ratio * below
    variance = n / (n - 1) * float(residuals @ residuals) * unseen
    return student(n - 1) * math.sqrt(variance) / float(above.sum())


def student(freedom: int) -> float:
    """The 97.5th percentile of Student's t, within 5 % from 2 degrees of freedom (Abramowitz and Stegun, 26.7.5)."""
    return 1.96 + 2.3724 / freedom + 2.8225 / freedom**2 + 2.5558 / freedom**3


def _clustered(manifest: Manifest, found: Scan) -> bool:
    """Whether row groups are what was sampled; where all of them are in the sample, their documents are."""
    return 2 <= len(found.groups) < manifest.row_groups


def _unseen(manifest: Manifest, found: Scan) -> float:
    return max(0.0, 1 - sum(g.looked for g in found.groups) / max(1, manifest.rows))


def _groups_of(found: Scan) -> NDArray[np.int64]:
    """Which row group each document is of, in the order of reading: int64 [documents].

    A document without a token, which no row group counts, goes with the next that has some.
    """
    ends = np.cumsum([g.documents for g in found.groups])
    before: NDArray[np.int64] = np.cumsum(found.tokens > 0) - (found.tokens > 0)
    return np.minimum(np.searchsorted(ends, before, "right"), len(ends) - 1)


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
