"""Peak memory of a rank: weights, gradients, optimizer, activations, logits, and what the process itself takes.

A rank holds a whole replica; nothing is sharded. Activations are what the layers of transformers keep when each
operation is run by itself, measured as the bytes that autograd saves. With torch.compile or Liger's kernels the lower
end is the published formula, which fused kernels come near to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from headrace.forecast.architecture import Architecture
from headrace.forecast.precision import Precision


class Range(NamedTuple):
    """The lowest and the highest that is expected."""

    low: float
    high: float

    def plus(self, other: Range) -> Range:
        """Both ends added."""
        return Range(self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Range:
        """Both ends multiplied by what is 0 or more."""
        return Range(self.low * factor, self.high * factor)


CPU_PROCESS = Range(0.70e9, 0.95e9)
"""Resident bytes of a training process without its tensors, measured: Python, torch, transformers, the stream."""
GPU_PROCESS = Range(0.4e9, 1.5e9)
"""An assumption: CUDA context, libraries, the communicator; they do not count as allocated by torch."""
FRAGMENTED = 1.05
"""An assumption for the upper end: what torch's allocator cannot use."""

# Bytes a token and layer that autograd keeps, by (width, q, kv, mlp), sdpa or flash attention: measured with
# saved_tensors_hooks on transformers' layers run one operation at a time, and tested against them.
_Saved = tuple[float, float, float, float]
SAVED: dict[str, dict[str, _Saved]] = {
    "gpt2": {"full": (20, 8, 4, 20), "mixed": (12, 4, 4, 10), "pure": (8, 4, 4, 10)},
    "gpt_neox": {"full": (24, 8, 8, 8), "mixed": (14, 4, 4, 4), "pure": (12, 4, 4, 4)},
    "llama": {"full": (24, 8, 8, 16), "mixed": (26, 4, 4, 8), "pure": (16, 4, 4, 8)},
    "qwen3": {"full": (24, 16, 16, 16), "mixed": (26, 10, 10, 8), "pure": (16, 10, 10, 8)},
    "gemma": {"full": (24, 8, 8, 16), "mixed": (26, 4, 4, 8), "pure": (20, 4, 4, 8)},
}  # fmt: skip
SAVED |= {"mistral": SAVED["llama"], "qwen2": SAVED["llama"]}

# The optimizers' states a weight: how many numbers of the weights' own format, and how many bytes beside.
_STATES: dict[str, tuple[int, float]] = {
    "adamw_torch": (2, 0), "adamw_torch_fused": (2, 0), "adamw_torch_xla": (2, 0), "adamw_apex_fused": (2, 0),
    "adagrad": (1, 0), "rmsprop": (1, 0), "sgd": (0, 0), "adafactor": (0, 0.1),
    "adamw_bnb_8bit": (0, 2.1), "adamw_8bit": (0, 2.1), "paged_adamw_8bit": (0, 2.1), "adamw_torch_8bit": (0, 2.1),
    "paged_adamw": (2, 0), "paged_adamw_32bit": (2, 0),
    "lion": (1, 0), "lion_32bit": (1, 0), "paged_lion": (1, 0), "paged_lion_32bit": (1, 0),
    "lion_8bit": (0, 1.05), "paged_lion_8bit": (0, 1.05),
}  # fmt: skip


def knows_optimizer(name: str) -> bool:
    """Whether it is known how much an optimizer keeps; others are taken for AdamW."""
    return name in _STATES


def optimizer_bytes(parameters: int, name: str, weight_bytes: int) -> int:
    """Bytes of an optimizer's states, in memory and in a checkpoint."""
    numbers, extra = _STATES.get(name, (2, 0.0))
    return round(parameters * (numbers * weight_bytes + extra))


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one rank; peak: of all of it, the process included."""

    weights: int
    gradients: int
    optimizer: int
    cast_weights: int
    """Half-precision copies of the weights that autocast keeps for a micro-batch."""
    buckets: int
    """What DistributedDataParallel copies gradients into."""
    activations: Range
    logits: Range
    process: Range
    peak: Range

    @property
    def tensors(self) -> Range:
        """The peak without the process: what torch allocates."""
        return Range(self.peak.low - self.process.low, self.peak.high - self.process.high)

    def fits(self, available: int) -> str:
        """`yes`, `no`, or `maybe` where only the lower end fits."""
        if self.peak.high <= available:
            return "yes"
        return "maybe" if self.peak.low <= available else "no"


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How the layers are run."""

    eager: bool = False
    """Attention that keeps its scores."""
    masked: bool = False
    """Whether a mask keeps documents in a block apart: with sdpa, but not with flash kernels."""
    recompute: bool = False
    """Gradient checkpointing."""
    fused: bool = False
    """torch.compile or Liger's kernels."""
    on_cpu: bool = False


def layer_bytes(shape: Architecture, precision: Precision, manner: Manner, *, block: int) -> Range:
    """Bytes a token that one layer keeps for the backward pass.

    Published: Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models (2022), section 4.1:
    34 bytes x width in half precision with a GELU of 4 x width, 2 of them dropout masks, and 5 x heads x block where
    attention is not fused. Taken apart by the sizes it is 8·width + 4·q + 4·kv + 4·mlp, with a gate 8·mlp.
    """
    numbers = 2 if precision.kind == "full" else 1
    low = numbers * (8.0 * shape.width + 4 * shape.q + 4 * shape.kv + (8 if shape.gated else 4) * shape.mlp)
    known = shape.model_type in SAVED
    w, q, kv, mlp = SAVED[shape.model_type if known else "qwen3" if shape.gated else "gpt2"][precision.kind]
    high = w * shape.width + q * shape.q + kv * shape.kv + mlp * shape.mlp + 4 * shape.heads + 16
    if shape.dropout:
        low += 2 * shape.width
        high += (8 if manner.on_cpu else 2) * shape.width
    if manner.eager or (shape.attention_dropout and manner.on_cpu):  # on a CPU, attention with dropout is not fused
        low += 5 * shape.heads * block
        high += 12 * shape.heads * block
    elif manner.masked:
        # Each layer makes numbers of the mask, and keeps them; keys and values are repeated for all heads then.
        mask = 2 * numbers * block + 4 * numbers * (shape.q - shape.kv)
        low, high = low + mask, high + mask
    return Range(low, high) if manner.fused or not known else Range(high, high)


def activation_bytes(shape: Architecture, precision: Precision, manner: Manner, *, tokens: int, block: int) -> Range:
    """Bytes that the layers keep of a micro-batch of so many tokens. Recomputed: their inputs, and one layer."""
    layer = layer_bytes(shape, precision, manner, block=block)
    ends = Range(4.0 * shape.width, 14.0 * shape.width)  # embeddings and the last norm
    if manner.recompute:
        inputs = shape.layers * shape.width * (2.0 if precision.kind == "pure" else 4.0)
        return layer.plus(ends).plus(Range(inputs, inputs)).times(tokens)
    return layer.times(shape.layers).plus(ends).times(tokens)


def logit_bytes(shape: Architecture, precision: Precision, *, tokens: int) -> Range:
    """Bytes of logits and their gradients at the worst moment.

    The loss is computed in float32: the log-probabilities are kept (4 bytes a token and word), and two gradients of
    their size are there at once when the backward pass begins; in half precision a third of half the size.
    """
    high = 12.0 if precision.kind == "full" else 14.0
    return Range(8.0, high).times(tokens * shape.vocabulary)


def estimate(
    shape: Architecture,
    precision: Precision,
    manner: Manner,
    *,
    micro_batch: int,
    block: int,
    accumulation: int,
    optimizer: str,
    ranks: int,
) -> Memory:
    """What a rank needs at its peak."""
    n, tokens = shape.parameters, micro_batch * block
    weights = n * precision.weight_bytes
    states = optimizer_bytes(n, optimizer, precision.weight_bytes)
    cast = 2 * (n - shape.lookup) if precision.kind == "mixed" else 0
    buckets = weights if ranks > 1 else 0
    activations = activation_bytes(shape, precision, manner, tokens=tokens, block=block)
    logits = logit_bytes(shape, precision, tokens=tokens)
    process = CPU_PROCESS if manner.on_cpu else GPU_PROCESS
    fixed, passing = weights + states + buckets, activations.low + logits.low + cast
    # Gradients come as activations go, unless an earlier micro-batch of the step has left them.
    low = fixed + (max(weights, passing) if accumulation == 1 else weights + passing)
    high = FRAGMENTED * (fixed + weights + cast + activations.high + logits.high)
    return Memory(
        weights=weights, gradients=weights, optimizer=states, cast_weights=cast, buckets=buckets,
        activations=activations, logits=logits, process=process,
        peak=Range(process.low + low, process.high + high),
    )  # fmt: skip
