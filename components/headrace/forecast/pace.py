"""How long it takes, and what it waits for."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.forecast.architecture import Architecture
from headrace.forecast.division import Division
from headrace.forecast.hardware import Hardware
from headrace.forecast.memory import Manner, Range
from headrace.forecast.precision import Precision

RECOMPUTED = 8 / 6
"""Gradient checkpointing runs the forward pass twice: 8 operations a parameter and token in place of 6."""

LAUNCH_S = Range(5e-6, 20e-6)
"""An assumption: seconds that the CPU takes to start one operation on an accelerator. Small models wait for that."""
OPERATIONS = {
    "gpt2": (49, 71), "gpt_neox": (66, 99), "llama": (109, 143), "mistral": (109, 143), "qwen2": (112, 152),
    "qwen3": (144, 184), "gemma": (106, 140),
}  # fmt: skip
"""Operations of a layer, forward and backward, in one precision and with autocast: counted on transformers' layers."""
OTHER_OPERATIONS = 60
"""The same outside the layers."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds and rates. compute_s: of a step, without waiting; data_s: of the stream, None where it is not known."""

    flops_per_token: float
    launch_s: Range
    """Seconds a step that starting its operations takes at least: 0 on a CPU."""
    compute_s: Range
    data_s: float | None
    step_s: Range
    tokens_per_s: Range
    """Trained tokens a second, over all ranks."""
    needed_per_rank: Range
    """Tokens a second that a rank's stream has to give so that it does not wait."""
    wall_s: Range
    gpu_hours: Range
    cost: Range | None
    bottleneck: str


def estimate(
    shape: Architecture,
    division: Division,
    hardware: Hardware,
    precision: Precision,
    *,
    block: int,
    steps: int,
    tokens_per_step: float,
    manner: Manner,
    data_tokens_per_s: float | None,
    price: float | None,
) -> Pace:
    """The pace of a training. data_tokens_per_s: what the stream gives a rank; price: of one GPU for an hour."""
    flops = shape.flops_per_token(block)
    positions = division.micro_batch * division.accumulation * block
    # The ranks of one machine's CPU share it.
    peak = hardware.peak(precision.rate) / (1 if hardware.accelerator else division.ranks)
    work = flops * positions * (RECOMPUTED if manner.recompute else 1)
    launch = launching(shape, precision, manner, division.accumulation)
    low, high = work / (peak * hardware.mfu[1]), work / (peak * hardware.mfu[0])
    compute = Range(max(low, launch.low), max(high, launch.high))
    asked = tokens_per_step / division.ranks
    data = asked / data_tokens_per_s if data_tokens_per_s else None
    step = Range(*(max(s, data or 0.0) for s in compute))
    wall = step.times(steps)
    hours = wall.times(division.ranks / 3600)
    return Pace(
        flops_per_token=flops, launch_s=launch, compute_s=compute, data_s=data, step_s=step,
        tokens_per_s=Range(tokens_per_step / step.high, tokens_per_step / step.low),
        needed_per_rank=Range(asked / compute.high, asked / compute.low),
        wall_s=wall, gpu_hours=hours, cost=None if price is None else hours.times(price),
        bottleneck=_bottleneck(compute, data, launched=launch.high >= high),
    )  # fmt: skip


def launching(shape: Architecture, precision: Precision, manner: Manner, micro_batches: int) -> Range:
    """Seconds that starting the operations of so many micro-batches takes; with fused kernels maybe none."""
    if manner.on_cpu:
        return Range(0.0, 0.0)
    plain, mixed = OPERATIONS.get(shape.model_type, OPERATIONS["qwen3"])
    operations = shape.layers * (mixed if precision.kind == "mixed" else plain) + OTHER_OPERATIONS
    low, high = LAUNCH_S.times(operations * micro_batches * (RECOMPUTED if manner.recompute else 1))
    return Range(0.0 if manner.fused else low, high)


def _bottleneck(compute: Range, data: float | None, *, launched: bool) -> str:
    computing = "starting operations (the micro-batch is small for this hardware)" if launched else "compute"
    if data is None:
        return f"{computing}, if the stream keeps up (not measured)"
    if data <= compute.low:
        return computing
    return "the stream" if data >= compute.high else f"{computing} or the stream, about equally"
