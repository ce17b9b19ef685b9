"""A faster implementation of a tokenizer, used only where it is proven to give the same ids."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.errors import Preempted

log = logging.getLogger(__name__)

Encode = Callable[[Sequence[str]], tuple[NDArray[np.int32], NDArray[np.int64]]]
"""Texts to flat ids int32 [n] and offsets int64 [len(texts) + 1]."""

AWKWARD = (
    "",
    " ",
    "\n\n\t  \r\n x  \u00a0\u2003\u2028\ufeff",
    "a" * 2_000 + " " * 600 + "1234567890" * 40,
    "don't WE'LL they've I'm",
    "naïve e\u0301 \u212b ﬁ Ⅷ 日本語のテキスト 한국어 العربية हिन्दी ไทย",
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 \U0001f1e9\U0001f1ea \ufffd \ud7ff\ue000 \U0010ffff",
    "\x00\x01\x1b[31m\x7f\x85",
    "https://example.org/a?b=c&d=%20#e <div class='x'>&amp;</div> {\"k\": [1, 2.5e-3]}",
)
"""Where implementations of byte-pair encoding are known to differ."""


def fast_encode(tokenizer_json: str, slow: Encode, special: Sequence[str], real: Sequence[str]) -> Encode | None:
    """`fastokens` for this tokenizer, or None, with the reason logged, where it cannot be proven the same.

    Compared on awkward Unicode, on text with every special token written out in it, and on `real` documents.
    """
    try:
        import fastokens

        tokenizer = fastokens.Tokenizer.from_json_str(tokenizer_json)
    except Preempted:
        raise
    except Exception as error:  # whatever keeps the fast one from loading, the slow one works
        log.info("the fast tokenizer is not used: %s: %s", type(error).__name__, error)
        return None

    def encode(texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        ids, offsets = tokenizer.encode_batch_flat(list(texts))
        return np.frombuffer(ids, "<u4").astype(np.int32), np.frombuffer(offsets, "<u8").astype(np.int64)

    probes = [*AWKWARD, *(f"a{s} {s}{s}\n{s}b" for s in special), *real]
    try:
        difference = _difference(encode, slow, probes)
    except Preempted:
        raise
    except Exception as error:  # a crash on a probe would be a crash in training
        difference = f"it fails: {error}"
    if difference:
        log.warning("the fast tokenizer is not used: %s", difference)
        return None
    return encode


def _difference(fast: Encode, slow: Encode, probes: Sequence[str]) -> str:
    (ids, offsets), (true_ids, true_offsets) = fast(probes), slow(probes)
    for i, text in enumerate(probes):
        found, expected = ids[offsets[i] : offsets[i + 1]], true_ids[true_offsets[i] : true_offsets[i + 1]]
        if not np.array_equal(found, expected):
            return f"its ids differ from those of `tokenizers` on {text[:40]!r}"
    return ""
