"""How a global batch is spread over ranks: micro-batches, accumulation, filler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headrace.errors import InputError
from headrace.stream.order import exact_world_sizes, largest_share


@dataclass(frozen=True, kw_only=True)
class Division:
    """A step on every rank: `accumulation` micro-batches of `micro_batch` rows; efficiency: rows that are no filler."""

    ranks: int
    global_batch: int
    lanes: int
    micro_batch: int
    accumulation: int
    efficiency: float


def share(*, global_batch: int, lanes: int, ranks: int) -> int:
    """The most samples a rank has in a step; InputError when there are more ranks than lanes."""
    if ranks > lanes:
        exact = ", ".join(map(str, exact_world_sizes(global_batch, lanes)))
        raise InputError(
            f"--gpus is {ranks}; a global batch of {global_batch} has {lanes} lanes, at most one rank a lane",
            f"use at most {lanes} GPUs (no filler with {exact}), or set a larger --global_batch_size or --lanes",
        )
    return largest_share(global_batch=global_batch, lanes=lanes, world_size=ranks)


def divide(*, global_batch: int, lanes: int, ranks: int, micro_batch: int) -> Division:
    """The division that `headrace train` makes; InputError for a micro-batch larger than what a rank has in a step."""
    most = share(global_batch=global_batch, lanes=lanes, ranks=ranks)
    if micro_batch > most:
        raise InputError(
            f"--per_device_train_batch_size is {micro_batch}; of a global batch of {global_batch} on {ranks} GPU(s) "
            f"a rank has {most} samples a step",
            f"use {most} or less, or a larger --global_batch_size",
        )
    return _divided(most, global_batch=global_batch, lanes=lanes, ranks=ranks, micro_batch=micro_batch)


def _divided(most: int, *, global_batch: int, lanes: int, ranks: int, micro_batch: int) -> Division:
    accumulation = -(-most // micro_batch)
    return Division(
        ranks=ranks, global_batch=global_batch, lanes=lanes, micro_batch=micro_batch, accumulation=accumulation,
        efficiency=global_batch / (ranks * accumulation * micro_batch),
    )  # fmt: skip


def recommend(*, global_batch: int, lanes: int, ranks: int, fits: Callable[[Division], bool]) -> Division | None:
    """The largest micro-batch that fits among those with the least filler; None when not even one row fits."""
    most = share(global_batch=global_batch, lanes=lanes, ranks=ranks)
    how = {"global_batch": global_batch, "lanes": lanes, "ranks": ranks}
    found = [_divided(most, **how, micro_batch=b) for b in _candidates(most)]
    fitting = [d for d in found if fits(d)]
    return max(fitting, key=lambda d: (d.efficiency, d.micro_batch)) if fitting else None


def _candidates(most: int) -> list[int]:
    """The divisors of a rank's share: every micro-batch is full then."""
    return [b for b in range(1, most + 1) if most % b == 0]
