"""Whether documents in one block really do not see each other: tried on the model itself, before it trains."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any

import torch

from headrace.errors import InputError
from headrace.scoring.score import evaluating

log = logging.getLogger(__name__)

FIRST, SECOND = 7, 9
"""Tokens of the two documents that are tried."""


def is_flash(attention: str | None) -> bool:
    """Whether an attention kernel tells documents apart only where a micro-batch is one row."""
    return "flash" in (attention or "")


def leak(model: Any, device: torch.device, *, rows: int, autocast: AbstractContextManager[Any]) -> float:
    """How much a document's logits change with the document before it in its row, as a share of the largest.

    rows: of the micro-batch that is tried; every row has the same two documents.
    """
    vocabulary = model.config.get_text_config().vocab_size
    ids = (torch.arange(FIRST + SECOND, device=device) * 7 + 3) % vocabulary
    other = torch.cat([(ids[:FIRST] + 1) % vocabulary, ids[FIRST:]])
    positions = torch.cat([torch.arange(FIRST, device=device), torch.arange(SECOND, device=device)])
    with evaluating(model), autocast:
        a, b = (
            model(
                input_ids=x.repeat(rows, 1), position_ids=positions.repeat(rows, 1), attention_mask=None,
                use_cache=False,
            ).logits[:, FIRST:].float()
            for x in (ids, other)
        )  # fmt: skip
    return float((a - b).abs().max() / a.abs().max().clamp(min=1e-30))


def require_isolation(
    model: Any, device: torch.device, *, rows: int, tolerance: float, autocast: AbstractContextManager[Any]
) -> None:
    """InputError when documents in one block attend to each other, whatever the reason."""
    found = leak(model, device, rows=rows, autocast=autocast)
    if found > tolerance:
        raise InputError(
            f"with {type(model).__name__} and {model.config._attn_implementation} attention, documents in one block "
            f"attend to each other (logits change by {found:.1%} with the document before)",
            "set --attn_implementation sdpa, or --dataset_group_text false: one document a row",
        )
