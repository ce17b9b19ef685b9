"""A model's logits a part at a time: those of a whole micro-batch do not fit where the vocabulary is large."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

_TRIED = 8
"""Positions on which the parts are held against the whole."""


class Logits:
    """Logits of a model, at most `at_once` numbers of them in memory where the model allows that.

    Below its head a model runs once; the head then takes the hidden states part by part, with all that the model
    itself does to logits. That the parts are what the whole is, is tried on the first input that is large enough. A
    model that is wrapped or shared out among ranks gives its logits whole: each rank must call it equally often.
    """

    def __init__(self, model: nn.Module, at_once: int) -> None:
        self._model, self._at_once = model, at_once
        self._apart: bool | None = None

    def parts(self, inputs: Tensor) -> Iterator[Tensor]:
        """Logits of ids [b, m] in their order, flattened: each part [p, v]."""
        # No attention mask: padding is on the right, where causal attention never looks, and a mask would cost the
        # fast kernels.
        step = max(1, self._at_once // _vocabulary(self._model)) if _vocabulary(self._model) else inputs.numel()
        if inputs.numel() <= step or not self._may_be_taken_apart(inputs):
            whole = self._model(input_ids=inputs, attention_mask=None, use_cache=False).logits.flatten(0, 1)
            yield from torch.split(whole, max(1, self._at_once // whole.shape[-1]))
            return
        hidden = self._hidden(inputs)
        for part in torch.split(hidden, step):
            yield self._head(part)

    def _may_be_taken_apart(self, inputs: Tensor) -> bool:
        if self._apart is None:
            self._apart = _is_whole_here(self._model) and self._same(inputs[:1, :_TRIED])
            if not self._apart:
                log.warning(
                    "%s gives its logits only whole: lower --eval_batch_size if memory is short",
                    type(self._model).__name__,
                )
        return self._apart

    def _same(self, inputs: Tensor) -> bool:
        whole = self._model(input_ids=inputs, attention_mask=None, use_cache=False).logits.flatten(0, 1).float()
        try:
            parts = self._head(self._hidden(inputs)).float()
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):  # a model of another build
            return False
        return whole.shape == parts.shape and bool((whole - parts).abs().max() <= 1e-3 * whole.abs().max())

    def _hidden(self, inputs: Tensor) -> Tensor:
        """What the head is given, [b·m, h]: seen while the model itself runs, with autocast and whatever wraps it."""
        trunk: Any = self._model.base_model
        seen: list[Tensor] = []
        handle = trunk.register_forward_hook(lambda _module, _inputs, output: seen.append(output[0]))
        try:
            last = self._model(input_ids=inputs, attention_mask=None, use_cache=False, logits_to_keep=1).logits
        finally:
            handle.remove()
        if last.shape[1] != 1:
            raise ValueError("the model makes all logits though one position was asked for")
        return seen[-1].flatten(0, 1)

    def _head(self, hidden: Tensor) -> Tensor:
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        made = BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden[None])
        ids = torch.zeros((1, len(hidden)), dtype=torch.long, device=hidden.device)
        with _answering(self._model.base_model, made):
            logits: Tensor = self._model(input_ids=ids, attention_mask=None, use_cache=False).logits
        return logits.flatten(0, 1)


def _vocabulary(model: nn.Module) -> int:
    """Logits a position, as the configuration has it; 0 without one."""
    config: Any = getattr(model, "config", None)
    found = getattr(config.get_text_config(), "vocab_size", 0) if config is not None else 0
    return int(found or 0)


def _is_whole_here(model: nn.Module) -> bool:
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel) or model.base_model is model:
        return False
    # Parts of a parameter on other ranks: DTensor of torch, ZeRO of DeepSpeed.
    return not any(hasattr(p, "full_tensor") or hasattr(p, "ds_id") for p in model.parameters())


@contextmanager
def _answering(module: Any, answer: Any) -> Iterator[None]:
    """The module gives this answer whatever it is asked."""
    before = vars(module).get("forward")
    module.forward = lambda *_, **__: answer
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
