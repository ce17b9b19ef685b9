"""What flags may name as a place: nothing that no file system takes, no address with a credential in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.errors import InputError
from headrace.stream.addresses import refuse_secrets

PLACES = (
    "dataset_name", "tokenized_dataset_save_dir", "tokenized_dataset_load_dir", "duplicates", "heldout", "manifest",
    "model_name_or_path", "tokenizer", "manifest_cache", "store", "publish", "report", "hardware", "output_dir",
    "resume_from_checkpoint", "config",
)  # fmt: skip
LONGEST_PATH, LONGEST_PART = 4_095, 255
"""Bytes of a path, and of a name in it: Linux takes no more."""


TEXTS = ("sample_prompt", "dataset_filter")
"""Not places, whatever they hold: text to go on from, and values of columns."""


def check_places(values: Mapping[str, Any]) -> None:
    """InputError for the first value that has an address with a credential in it, or is a place that cannot be one."""
    for name, value in values.items():
        if name not in TEXTS:
            refuse_secrets(f"--{name}", value)
        if name in PLACES and isinstance(value, str):
            _check_length(name, value)


def _check_length(name: str, place: str) -> None:
    parts = [] if "://" in place else place.split("/")
    sizes = [len(p.encode("utf-8", "surrogatepass")) for p in (place, *parts)]
    if sizes[0] > LONGEST_PATH or max(sizes[1:], default=0) > LONGEST_PART:
        raise InputError(
            f"--{name} has {sizes[0]:,} bytes; a path takes {LONGEST_PATH:,} at most, and a name in it {LONGEST_PART}",
            "check what was put there",
        )
