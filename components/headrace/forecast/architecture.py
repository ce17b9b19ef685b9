"""A model's shape and its number of parameters, from config.json alone.

The formulas count the weights of transformers' own classes; tests compare them with models built without memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from headrace.errors import InputError

Norm = Literal["layer", "rms"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the layers of a model_type hold beside their matrices. Sizes that config.json may leave out: defaults."""

    norm: Norm
    gated: bool
    """Whether the MLP has a gate: three matrices instead of two."""
    qkv_bias: bool | str
    out_bias: bool | str
    """A bias is there, is not, or is where the named field of the configuration is true."""
    mlp_bias: bool | str
    learned_positions: bool = False
    tied: bool = False
    qk_norm: bool = False
    kv_heads: int | None = None
    """None: as many as heads."""
    head_dim: int | None = None
    """None: width / heads."""


FAMILIES = {
    "gpt2": Family(
        norm="layer", gated=False, qkv_bias=True, out_bias=True, mlp_bias=True, learned_positions=True, tied=True
    ),
    "gpt_neox": Family(
        norm="layer", gated=False, qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias=True
    ),
    "llama": Family(
        norm="rms", gated=True, qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias"
    ),
    "mistral": Family(norm="rms", gated=True, qkv_bias=False, out_bias=False, mlp_bias=False, kv_heads=8),
    "qwen2": Family(norm="rms", gated=True, qkv_bias=True, out_bias=False, mlp_bias=False, kv_heads=32),
    "qwen3": Family(
        norm="rms", gated=True, qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias=False, qk_norm=True,
        kv_heads=32, head_dim=128,
    ),
    "gemma": Family(
        norm="rms", gated=True, qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias=False, tied=True,
        kv_heads=16, head_dim=256,
    ),
}  # fmt: skip
_BIASED = {"gpt_neox": True}
"""Whether the configuration's attention_bias is true where it is left out."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes that memory and time follow from."""

    model_type: str
    parameters: int
    lookup: int
    """Parameters that are looked up, not multiplied: embeddings that are not the output matrix too."""
    layers: int
    width: int
    heads: int
    q: int
    """Heads x size of a head."""
    kv: int
    """Key-value heads x size of a head."""
    mlp: int
    gated: bool
    vocabulary: int
    attention_dropout: bool = False
    dropout: bool = False
    formula: bool = True
    """False where the parameters were counted on the built model."""

    def flops_per_token(self, block: int) -> float:
        """Operations of a forward and backward pass: 6 a multiplied parameter, 12·layers·width·block for attention.

        Source: Chowdhery et al., PaLM (2022), appendix B; the same as `mfu` in the log of training stands on.
        """
        return 6.0 * (self.parameters - self.lookup) + 12.0 * self.layers * self.width * block


def known(config: Mapping[str, Any]) -> bool:
    """Whether there is a formula for this configuration."""
    return config.get("model_type") in FAMILIES


def shape(config: Mapping[str, Any], *, name: str) -> Architecture:
    """The architecture that a known configuration describes; InputError when a size is missing or cannot be."""
    kind = str(config["model_type"])
    family = FAMILIES[kind]
    get = _Sizes(config, name)
    old = kind == "gpt2"  # its configuration has names of its own
    width, layers = get("n_embd" if old else "hidden_size"), get("n_layer" if old else "num_hidden_layers")
    heads = get("n_head" if old else "num_attention_heads")
    vocabulary = get("vocab_size")
    head_dim = get("head_dim", family.head_dim or width // heads)
    kv_heads = heads if old or kind == "gpt_neox" else get("num_key_value_heads", family.kv_heads or heads)
    mlp = get("n_inner", 4 * width) if old else get("intermediate_size")
    q, kv = heads * head_dim, kv_heads * head_dim
    biased = {
        field: field if isinstance(field, bool) else bool(config.get(field, _BIASED.get(kind, False)))
        for field in (family.qkv_bias, family.out_bias, family.mlp_bias)
    }
    norm = 2 if family.norm == "layer" else 1
    layer = (
        width * (q + 2 * kv) + (q + 2 * kv) * biased[family.qkv_bias]
        + q * width + width * biased[family.out_bias]
        + (3 if family.gated else 2) * width * mlp
        + ((2 if family.gated else 1) * mlp + width) * biased[family.mlp_bias]
        + 2 * norm * width + (2 * head_dim if family.qk_norm else 0)
    )  # fmt: skip
    positions = get("n_positions") * width if family.learned_positions else 0
    table = vocabulary * width
    tied = bool(config.get("tie_word_embeddings", family.tied))
    drops = ("attn_pdrop", "attention_dropout"), ("resid_pdrop", "hidden_dropout", "embd_pdrop")
    default = 0.1 if old else 0.0
    return Architecture(
        model_type=kind,
        parameters=layers * layer + norm * width + positions + table * (1 if tied else 2),
        lookup=0 if tied else table,
        layers=layers, width=width, heads=heads, q=q, kv=kv, mlp=mlp, gated=family.gated, vocabulary=vocabulary,
        attention_dropout=_any(config, drops[0], default), dropout=_any(config, drops[1], default),
    )  # fmt: skip


def _any(config: Mapping[str, Any], fields: tuple[str, ...], default: float) -> bool:
    found = [config[f] for f in fields if f in config]
    return any(found) if found else default > 0


@dataclass(frozen=True)
class _Sizes:
    config: Mapping[str, Any]
    name: str

    def __call__(self, field: str, default: int | None = None) -> int:
        value = self.config.get(field)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(
                f"{self.name}: {field} in config.json is {value!r}; expected a whole number from 1",
                "name a model in Hugging Face's layout with --model_name_or_path",
            )
        return value
