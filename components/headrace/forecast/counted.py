"""Architectures without a formula: the model is built without memory, and counted. Needs torch and transformers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from headrace.errors import InputError
from headrace.forecast.architecture import FAMILIES, Architecture


def count(folder: Path, *, name: str, model_type: str, trust_remote_code: bool = False) -> Architecture:
    """The architecture of a model folder; InputError where torch is missing or transformers does not know it."""
    if any(importlib.util.find_spec(package) is None for package in ("torch", "transformers")):
        raise InputError(
            f"{name} has the model_type {model_type!r}; there are formulas for {', '.join(FAMILIES)}",
            "run this where torch and transformers are installed (pip install 'headrace[train]'): then it is built "
            "without memory, and counted",
        )
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code, local_files_only=True)
        with torch.device("meta"):
            causal: Any = AutoModelForCausalLM  # its annotations leave some out
            model = causal.from_config(config, trust_remote_code=trust_remote_code)
    except (ValueError, KeyError, OSError, ImportError) as error:
        raise InputError(
            f"transformers cannot build {name}: {str(error).splitlines()[0]}",
            "name a causal language model with --model_name_or_path",
        ) from error
    text = config.get_text_config()
    heads, width = int(text.num_attention_heads), int(text.hidden_size)
    head_dim = int(getattr(text, "head_dim", None) or width // heads)
    embedding = model.get_input_embeddings()
    untied = embedding is not None and not text.tie_word_embeddings
    return Architecture(
        model_type=model_type,
        parameters=sum(p.numel() for p in model.parameters()),
        lookup=embedding.weight.numel() if untied else 0,
        layers=int(text.num_hidden_layers), width=width, heads=heads, q=heads * head_dim,
        kv=int(getattr(text, "num_key_value_heads", None) or heads) * head_dim,
        mlp=int(getattr(text, "intermediate_size", None) or getattr(text, "ffn_dim", None) or 4 * width),
        # Nothing says so in general; three matrices are the larger estimate.
        gated=True,
        vocabulary=int(text.vocab_size), formula=False,
    )  # fmt: skip
