"""Flags as parameters of the pipeline: a few typed ones that people look for, the others as one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.options import parse_mapping
from headrace.options.parse import arguments, convert, known_flags

TYPED = ("dataset_name", "model_name_or_path", "dataset_config_name", "dataset_revision", "store", "publish")
GROUPS = ("dataset", "model", "validate", "train", "evaluate", "training")


def flags(command: str, argv: Sequence[str], description: str, example: str) -> dict[str, Any]:
    """Names and values of a command line over its --config file, each of its flag's type; InputError otherwise."""
    found = arguments(argv, prog=f"headrace {command}", description=description, example=example, groups=GROUPS)
    parse_mapping(found)
    known = known_flags()
    plain = {name.replace("-", "_"): value for name, value in found.items()}
    return {name: convert(known[name], value) if name in known else value for name, value in plain.items()}


def parameters(values: Mapping[str, Any], output_root: str = "") -> dict[str, Any]:
    """The pipeline's parameters. output_dir is each step's own, so it is left out."""
    typed = {name: str(values.get(name) or "") for name in TYPED}
    rest = {name: v for name, v in values.items() if name not in (*TYPED, "output_dir") and v is not None}
    return {**typed, "arguments": rest, "output_root": output_root}


def absolute(path: str) -> str:
    """A path that means the same from any folder; URIs as they are."""
    return path if "://" in path else str(Path(path).absolute())
