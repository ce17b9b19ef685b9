"""What the model makes of a prompt, before and after its training."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import nn

from headrace.scoring.generation import generate
from headrace.stream.tokenizer import Encoder

log = logging.getLogger(__name__)

NEW_TOKENS = 60


def before(model: nn.Module, encoder: Encoder, prompts: Sequence[str], seed: int) -> list[dict[str, str]]:
    """Each prompt and its continuation; torch's own random numbers go on as if nothing was drawn."""
    return [{"prompt": prompt, "before": _continued(model, encoder, prompt, seed)} for prompt in prompts]


def after(model: nn.Module, encoder: Encoder, samples: Sequence[dict[str, str]], seed: int) -> list[dict[str, str]]:
    """The same prompts with what the model makes of them now."""
    return [{**sample, "after": _continued(model, encoder, sample["prompt"], seed)} for sample in samples]


def _continued(model: nn.Module, encoder: Encoder, prompt: str, seed: int) -> str:
    try:
        return generate(model, encoder, prompt, new_tokens=NEW_TOKENS, seed=seed)
    except FloatingPointError as error:  # equal on every rank; the model is worth more than a text of it
        log.warning("no sample of %r: %s", prompt, error)
        return f"(no text: {error})"
