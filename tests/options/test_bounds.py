"""Numbers that no command can reckon with are refused where flags are parsed."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import InputError
from headrace.inputs import global_batch
from headrace.options import parse_mapping
from headrace.options.bounds import BOUNDS, MOST, Bounds
from headrace.options.parse import known_flags

OUTSIDE = [
    ("world_size", 0), ("world_size", -3), ("global_batch_size", 0), ("global_batch_size", -4),
    ("per_device_train_batch_size", 0), ("gradient_accumulation_steps", -1), ("gpu_tokens_per_s", "nan"),
    ("gpu_tokens_per_s", "inf"), ("gpu_tokens_per_s", -5), ("num_train_epochs", "inf"), ("num_train_epochs", "1e300"),
    ("validate_bytes", 0), ("validate_bytes", -1), ("validate_rows", -5), ("validate_s", "nan"), ("gpus", 0),
    ("heldout_fraction", "nan"), ("lanes", 100_000_000), ("world_size", 10**9), ("global_batch_size", 10**12),
    ("data_tokens_per_s", 0), ("save_steps", 0), ("max_steps", -2), ("max_steps", 10**40), ("seed", -1),
    ("read_deadline_s", "nan"), ("gate_max_regression", "inf"), ("price_per_gpu_hour", -1), ("grace_s", "inf"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), OUTSIDE)
def test_a_number_outside_its_bounds_is_refused(name: str, value: Any) -> None:
    for written in (value, str(value)):
        with pytest.raises(InputError, match=f"--{name} is .*, expected "):
            parse_mapping({name: written})


def test_every_number_of_our_own_has_bounds() -> None:
    numbers = {f.name for f in known_flags().values() if f.kind in ("int", "float") and f.group != "training"}
    assert numbers <= set(BOUNDS) <= set(known_flags())
    parse_mapping({f.name: f.default for f in known_flags().values() if f.name in BOUNDS})


def test_infinity_in_a_file_is_no_whole_number() -> None:
    for value in (float("inf"), float("nan"), "9" * 400):
        with pytest.raises(InputError, match="--max_steps wants a whole number"):
            parse_mapping({"max_steps": value})


def test_the_greatest_number_of_lanes_says_what_it_stands_on() -> None:
    with pytest.raises(InputError, match=r"expected 1 or more and at most 16,384") as found:
        parse_mapping({"lanes": 16_385})
    assert "one rank a lane" in found.value.remedy
    assert parse_mapping({"lanes": 16_384}).dataset.lanes == 16_384


def test_a_global_batch_made_of_flags_has_the_same_bounds() -> None:
    options = parse_mapping({"per_device_train_batch_size": 1 << 15, "gradient_accumulation_steps": 1 << 10})
    with pytest.raises(InputError, match=r"per-device batch 32768 x accumulation 1024 x 2 ranks\) is 67108864"):
        global_batch(options, 2)


def test_bounds_say_what_they_are() -> None:
    said = [str(b) for b in (Bounds(), Bounds(0), Bounds(0, above=True), Bounds(0, 1, below=True), Bounds(1, 9))]
    assert said == [
        "a number that is finite", "0 or more", "more than 0", "0 or more and below 1", "1 or more and at most 9"
    ]  # fmt: skip
    assert not Bounds().hold(float("nan")) and not Bounds(0).hold(MOST + 1) and Bounds(-1).hold(-1)
