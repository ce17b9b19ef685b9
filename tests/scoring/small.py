"""Models small enough to score in milliseconds, and the shipped tokenizer."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from headrace.stream.tokenizer import Encoder, load_encoder

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny-gpt2"
VOCABULARY = 4096


@functools.cache
def encoder() -> Encoder:
    return load_encoder(str(EXAMPLE))


def tiny_model(seed: int = 0, **settings: Any) -> GPT2LMHeadModel:
    """A random GPT-2 whose weights are wide enough for its answers to differ from token to token."""
    known = {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 64, "initializer_range": 0.3}
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, **{**known, **settings})
    model = GPT2LMHeadModel(config)
    model.train(False)
    return model


class Fixed(nn.Module):
    """Gives the same logits wherever it looks."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, input_ids: Tensor, attention_mask: None, use_cache: bool) -> Any:
        assert attention_mask is None and not use_cache
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, -1))


def certain(token: int, height: float = 50.0) -> Fixed:
    """A model that always puts one token first."""
    logits = torch.zeros(VOCABULARY)
    logits[token] = height
    return Fixed(logits)
