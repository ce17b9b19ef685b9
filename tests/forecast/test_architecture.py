"""Parameters by formula, beside transformers' own models built without memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from headrace.errors import InputError
from headrace.forecast import architecture, counted
from headrace.forecast.architecture import FAMILIES
from headrace.train.health import flops_per_token

BIG = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 200, "vocab_size": 301}
GROUPED = {"num_key_value_heads": 2}
CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}),
    ("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 32, "vocab_size": 99, "n_inner": 100}),
    ("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 32, "vocab_size": 99,
              "tie_word_embeddings": False}),
    ("gpt_neox", BIG),
    ("gpt_neox", {**BIG, "attention_bias": False, "tie_word_embeddings": True}),
    ("llama", BIG),
    ("llama", {**BIG, **GROUPED, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("llama", {**BIG, "head_dim": 32}),
    ("llama", {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
               "intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True}),  # SmolLM2-135M
    ("mistral", {**BIG, "num_attention_heads": 8}),
    ("mistral", {**BIG, **GROUPED}),
    ("qwen2", {**BIG, "num_attention_heads": 32, "hidden_size": 128}),
    ("qwen2", {**BIG, **GROUPED, "tie_word_embeddings": True}),
    ("qwen3", {**BIG, "num_attention_heads": 32}),
    ("qwen3", {**BIG, **GROUPED, "head_dim": 16, "attention_bias": True}),
    ("gemma", {**BIG, "num_attention_heads": 16}),
    ("gemma", {**BIG, "num_key_value_heads": 1, "head_dim": 24, "attention_bias": True}),
]  # fmt: skip


def built(kind: str, fields: dict[str, Any]) -> Any:
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **ids, **fields))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("kind", "fields"), CONFIGS)
def test_a_formula_counts_what_the_model_has(kind: str, fields: dict[str, Any]) -> None:
    model = built(kind, fields)
    shape = architecture.shape({"model_type": kind, **fields}, name="m")
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.flops_per_token(64) == flops_per_token(model, 64)
    # Written out in full, nothing changes: defaults are those of transformers.
    assert architecture.shape(model.config.to_dict(), name="m") == shape


def test_every_family_is_compared() -> None:
    assert {kind for kind, _ in CONFIGS} == set(FAMILIES)


def test_an_architecture_without_a_formula_is_counted(tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "opt", hidden_size=64, num_hidden_layers=2, num_attention_heads=2, ffn_dim=100, vocab_size=99,
        word_embed_proj_dim=64, max_position_embeddings=32,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    assert not architecture.known({"model_type": "opt"})
    shape = counted.count(tmp_path, name="m", model_type="opt")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert (shape.layers, shape.width, shape.mlp, shape.formula) == (2, 64, 100, False)


def test_what_transformers_does_not_know_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(InputError, match="transformers cannot build m"):
        counted.count(tmp_path, name="m", model_type="no-such-model")


@pytest.mark.parametrize("value", [None, 0, -1, "64", 1.5, True])
def test_a_missing_or_odd_size_is_named(value: Any) -> None:
    with pytest.raises(InputError, match=r"hidden_size in config\.json is"):
        architecture.shape({"model_type": "llama", **BIG, "hidden_size": value}, name="m")
