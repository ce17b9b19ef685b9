"""What the numbers of flags may be: told where flags are parsed, so that no command reckons with another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.errors import InputError

MOST = 1 << 53
"""No amount of anything here is larger, and up to it a float tells whole numbers apart."""
MOST_RANKS = 1 << 14
MOST_SAMPLES = 1 << 20


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest value of a number. why: what the greatest stands on, where there is one.

    above, below: the value itself is not allowed.
    """

    least: float = -MOST
    most: float = MOST
    why: str = ""
    above: bool = False
    below: bool = False

    def hold(self, value: float) -> bool:
        """Whether the value is a number within them."""
        return self._from_least(value) and self._up_to_most(value)

    def _from_least(self, value: float) -> bool:
        return value > self.least if self.above else value >= self.least

    def _up_to_most(self, value: float) -> bool:
        return value < self.most if self.below else value <= self.most

    def __str__(self) -> str:
        parts = []
        if self.least > -MOST:
            parts.append(f"more than {self.least:,g}" if self.above else f"{self.least:,g} or more")
        if self.most < MOST:
            parts.append(f"below {self.most:,g}" if self.below else f"at most {self.most:,d}")
        return " and ".join(parts) or "a number that is finite"


_COUNT, _AMOUNT, _POSITIVE = Bounds(1), Bounds(0), Bounds(0, above=True)
_LANES = Bounds(
    1, MOST_RANKS, "a lane keeps some 6 MB of text in memory, and there is at most one rank a lane: more lanes than "
    "the largest trainings have ranks serve nothing (docs/scaling.md; the default ends at 256)",
)  # fmt: skip
_RANKS = Bounds(1, MOST_RANKS, "there is at most one rank a lane, and there are no more lanes (docs/scaling.md)")
_SAMPLES = Bounds(
    1, MOST_SAMPLES, "every rank lists the samples of a step, and no known training gains from larger batches: more "
    "steps train as much",
)  # fmt: skip
_THREADS = Bounds(1, 4_096, "no machine has as many cores")

BOUNDS: Mapping[str, Bounds] = {
    "lanes": _LANES,
    "dataset_block_size": _COUNT, "dataset_max_seq_length": _COUNT,
    "max_train_samples": _COUNT, "max_eval_samples": _COUNT,
    "dataset_num_proc": _THREADS,
    "heldout_fraction": Bounds(0, 1, below=True),
    "read_deadline_s": _AMOUNT,
    "world_size": _RANKS,
    "validate_rows": _COUNT, "validate_bytes": _COUNT, "validate_s": _AMOUNT,
    "gpu_tokens_per_s": _POSITIVE,
    "commit_every_s": _AMOUNT, "grace_s": _AMOUNT,
    "global_batch_size": _SAMPLES,
    "num_nodes": _RANKS, "nproc_per_node": Bounds(1, 1_024, "no machine has as many accelerators"),
    "torch_threads": _THREADS,
    "eval_batch_size": _SAMPLES,
    "gate_max_regression": Bounds(why="--gate warn publishes whatever is found, --gate off compares nothing"),
    "gpus": _RANKS,
    "price_per_gpu_hour": _AMOUNT,
    "data_tokens_per_s": _POSITIVE,
    # TrainingArguments that Headrace reckons with; which of the next two counts, a step says.
    "max_steps": Bounds(-1),
    "num_train_epochs": Bounds(0, 1_000_000, "no data is worth a million passes"),
    "per_device_train_batch_size": _SAMPLES, "gradient_accumulation_steps": _SAMPLES,
    "per_device_eval_batch_size": _SAMPLES,
    "save_steps": _POSITIVE, "logging_steps": _POSITIVE,
    "dataloader_num_workers": Bounds(0, 4_096, "no machine has as many cores"),
    "seed": Bounds(0, (1 << 32) - 1, "the generators of numpy take no other"),
}  # fmt: skip


def check_numbers(values: Mapping[str, Any]) -> None:
    """InputError for the first number that is outside its bounds, or none at all (nan, inf)."""
    for name, value in values.items():
        if name in BOUNDS and value is not None:
            check_number(name, value)


def check_number(name: str, value: float, made_of: str = "") -> None:
    """InputError when a number is outside the bounds of its flag; made_of: where it is not the flag's own."""
    bounds = BOUNDS[name]
    if bounds.hold(value):
        return
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    shown = shown if len(shown) <= 30 else f"{shown[:12]}… ({len(shown)} digits)"
    raise InputError(
        f"{made_of or f'--{name}'} is {shown}, expected {bounds}",
        bounds.why if value > bounds.least else "",
    )
