"""Flags that no validation can be made with end in one line and exit code 2, before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Validate = Callable[..., Any]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--world_size", "0"), "--world_size is 0, expected 1 or more"),
        (("--global_batch_size", "-4"), "--global_batch_size is -4, expected 1 or more"),
        (("--gpu_tokens_per_s", "inf"), "--gpu_tokens_per_s is inf, expected more than 0"),
        (("--validate_bytes", "0"), "--validate_bytes is 0, expected 1 or more"),
        (("--lanes", "100000000"), "--lanes is 100000000, expected 1 or more and at most 16,384"),
        (("--world_size", "16000", "--per_device_train_batch_size", "1000"), "is 16000000, expected 1 or more and at"),
        (("--validate_thresholds", '{"warn_wasted": 1e999}'), "warn_wasted is inf, expected a number of 0 or more"),
        (("--validate_thresholds", '{"warn_wasted": NaN}'), "warn_wasted is nan, expected a number of 0 or more"),
        (("--validate_thresholds", '{"warn_wasted": -1}'), "warn_wasted is -1, expected a number of 0 or more"),
    ],
)
def test_numbers_that_cannot_be(flags: tuple[str, ...], said: str, validate: Validate, dataset: Any) -> None:
    result = validate(dataset(["A text.", "Another one."]), *flags)
    assert result.code == 2 and result.report is None
    assert said in result.err and "Traceback" not in result.err, result.err


def test_a_name_of_5000_characters(validate: Validate) -> None:
    result = validate("x" * 5_000)
    assert result.code == 2 and "--dataset_name has 5,000 bytes" in result.err and len(result.err) < 300
