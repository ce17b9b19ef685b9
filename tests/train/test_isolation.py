"""Documents in one block do not see each other, whatever the kernel; where they would, training does not begin."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, BloomConfig, LlamaConfig

from headrace.errors import InputError
from headrace.train.isolation import leak, require_isolation
from headrace.train.model import require_positions

causal: Any = AutoModelForCausalLM
CPU = torch.device("cpu")
SIZE: dict[str, Any] = {"vocab_size": 97, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_documents_are_kept_apart(attention: str, checkpointing: bool, family: str, still: Path) -> None:
    config = AutoConfig.from_pretrained(still) if family == "gpt2" else LlamaConfig(**SIZE, intermediate_size=32)
    model = causal.from_config(config, attn_implementation=attention)
    if checkpointing:
        model.activation_checkpointing_enable()
    assert leak(model, CPU, rows=3, autocast=nullcontext()) < 1e-5


def test_also_when_compiled(still: Path) -> None:
    model = causal.from_config(AutoConfig.from_pretrained(still), attn_implementation="sdpa")
    model.forward = torch.compile(model.forward, backend="aot_eager")
    assert leak(model, CPU, rows=2, autocast=nullcontext()) < 1e-5


def test_a_model_that_mixes_them_is_refused(still: Path) -> None:
    model = causal.from_config(AutoConfig.from_pretrained(still), attn_implementation="sdpa")
    forward = model.forward

    def without_positions(*, position_ids: torch.Tensor, **inputs: Any) -> Any:
        return forward(**inputs)

    model.forward = without_positions
    with pytest.raises(InputError, match="attend to each other"):
        require_isolation(model, CPU, rows=2, tolerance=1e-4, autocast=nullcontext())
    bloom = causal.from_config(BloomConfig(vocab_size=97, hidden_size=16, n_layer=1, n_head=2))
    with pytest.raises(InputError, match="takes no position ids"):
        require_positions(bloom)
