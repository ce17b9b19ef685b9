"""Checks of what the tokenizer makes of the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.artifacts.report_format import count, percent, significant
from headrace.stream.manifest import Manifest
from headrace.stream.plan import Plan
from headrace.stream.tokenizer import Encoder, ModelLimits
from headrace.validate.counting import TokenCounter
from headrace.validate.findings import Finding, Thresholds, warn_from
from headrace.validate.scan import Scan

POOR_BYTES_PER_TOKEN = 2.0
"""Usual are 3 to 5: below this a tokenizer writes the text nearly letter by letter."""
UNKNOWN_SHARE = 0.001
BYTE_SHARE = 0.05
PADDING = 1_024
"""Rows that models round their vocabulary up by."""


def tokens(manifest: Manifest, found: Scan, estimates: Mapping[str, Any]) -> Iterator[Finding]:
    """No-go when there is nothing to train on."""
    if not manifest.rows:
        yield Finding(
            code="no-rows",
            severity="no-go",
            message=f"{manifest.name} has no rows that can be read, in {count(len(manifest.files))} readable files.",
            remedy="Name a dataset, configuration and split that hold documents.",
        )
    elif not found.tokens.sum():
        yield Finding(
            code="no-tokens",
            severity="no-go",
            message=f"None of the {count(found.rows)} rows looked at gives a token.",
            evidence={"rows": found.rows, "nulls": found.nulls, "blanks": found.blanks},
            consequence="There is nothing to train on.",
            remedy="Check --dataset_text_field and the source.",
        )
    elif not estimates["train_tokens"]:
        yield Finding(
            code="no-tokens",
            severity="no-go",
            message="The held-out slice takes every document: none is left to train on.",
            evidence={"documents": estimates["documents"], "heldout_tokens": estimates["heldout_tokens"]},
            remedy="Lower --heldout_fraction, or name a larger dataset.",
        )


def fit(found: Scan, counter: TokenCounter, limits: Thresholds) -> Iterator[Finding]:
    """Notes on a tokenizer that was made for other text."""
    n, size = int(found.tokens.sum()), int(found.sizes.sum())
    if not n:
        return
    unknown, single = counter.unknown, counter.single_bytes
    if unknown and (
        unknown / n >= UNKNOWN_SHARE or (limits.warn_unknown is not None and unknown / n >= limits.warn_unknown)
    ):
        yield Finding(
            code="unknown-tokens",
            severity=warn_from(unknown / n, limits.warn_unknown),
            message=f"{percent(unknown / n)} of the tokens stand for text that the tokenizer does not know.",
            evidence={"unknown": unknown, "tokens": n},
            consequence="What they stood for is lost: the model cannot learn it.",
            remedy="Name the tokenizer that belongs to this text with --tokenizer.",
        )
    if single and single / n >= BYTE_SHARE:
        yield Finding(
            code="byte-fallback",
            severity="info",
            message=f"{percent(single / n)} of the tokens are single bytes that the vocabulary fell back to.",
            evidence={"single_bytes": single, "tokens": n},
            consequence="Such text takes several tokens a character, and as many times the steps.",
            remedy="Name a tokenizer made for this text with --tokenizer.",
        )
    limit = limits.warn_bytes_per_token
    if size / n < max(POOR_BYTES_PER_TOKEN, limit or 0.0):
        yield Finding(
            code="tokenizer-fit",
            severity="warn" if limit is not None and size / n < limit else "info",
            message=f"A token stands for {significant(size / n)} bytes of text; usual are 3 to 5.",
            evidence={
                "bytes_per_token": size / n, "tokens": n, "bytes": size,
                "vocabulary_used": counter.distinct, "vocabulary": len(counter.ids),
            },
            consequence="The text takes more tokens than with a tokenizer made for it: more steps and a shorter "
            "context.",
            remedy="Name a tokenizer made for this language or kind of text with --tokenizer.",
        )  # fmt: skip


def vocabulary(encoder: Encoder, model: ModelLimits) -> Iterator[Finding]:
    """A note on a model with many more ids than its tokenizer gives; fewer are an error before anything is read."""
    unused = model.vocab_size - encoder.size
    if unused > PADDING:
        yield Finding(
            code="unused-vocabulary",
            severity="info",
            message=f"The model has {count(model.vocab_size)} ids; the tokenizer gives {count(encoder.size)} of them.",
            evidence={"model": model.vocab_size, "tokenizer": encoder.size, "unused": unused},
            consequence="Their embeddings and logits take memory and are never trained.",
            remedy="Check that this is the model's own tokenizer.",
        )


def epoch(estimates: Mapping[str, Any], plan: Plan | None) -> Iterator[Finding]:
    """A note when one step takes more than the dataset has."""
    if plan is not None and 0 < estimates["train_tokens"] < plan.block * plan.global_batch:
        yield Finding(
            code="short-epoch",
            severity="info",
            message=f"A step trains {count(plan.block * plan.global_batch)} tokens; the dataset has some "
            f"{count(estimates['train_tokens'])}.",
            evidence={"train_tokens": estimates["train_tokens"], "step_tokens": plan.block * plan.global_batch},
            consequence="Documents repeat within one step.",
            remedy="Name a larger dataset, or lower the batch or --dataset_block_size.",
        )
