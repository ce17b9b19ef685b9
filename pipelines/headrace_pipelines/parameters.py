"""Flags as parameters of the pipeline: a few typed ones that people look for, the others as one object."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from headrace.artifacts.storage import JOB
from headrace.errors import InputError
from headrace.evaluate.gate import Threshold
from headrace.options import parse_mapping
from headrace.options.parse import arguments, convert, known_flags

TEXTS = ("dataset_name", "model_name_or_path", "dataset_config_name", "dataset_revision", "store", "publish")
OTHERS = ("gate", "gate_threshold", "wandb_project", "num_nodes", "nproc_per_node")
"""Parameters of their own whose default is the pipeline's."""
GROUPS = ("dataset", "model", "validate", "train", "evaluate", "tracking", "training")
REQUIRED = ("dataset_name", "model_name_or_path")
MIXTURE = "dataset_mixture"


class OwnFlags(argparse.ArgumentParser):
    """Parses what belongs to a command itself; InputError for a mistake."""

    def __init__(self, command: str) -> None:
        super().__init__(prog=f"headrace {command}", add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise InputError(message, f"`{self.prog} --help` shows the flags")


def flags(command: str, argv: Sequence[str], description: str, example: str) -> dict[str, Any]:
    """Names and values of a command line over its --config file, each of its flag's type; InputError otherwise.

    Conditions of the gate are read too: evaluate, which needs them, comes after a training that was paid for.
    """
    found = arguments(argv, prog=f"headrace {command}", description=description, example=example, groups=GROUPS)
    for text in parse_mapping(found).evaluate.gate_threshold or ():
        Threshold.parse(text)
    known = known_flags()
    plain = {name.replace("-", "_"): value for name, value in found.items()}
    return {name: convert(known[name], value) if name in known else value for name, value in plain.items()}


def parameters(values: Mapping[str, Any], output_root: str = "") -> dict[str, Any]:
    """The pipeline's parameters. output_dir is each step's own, so it is left out.

    InputError for what must not lie in a package that others read, for what none can hold, and for a pipeline with
    nothing to evaluate.
    """
    for name, value in values.items():
        _check_json(name, value)
    if values.get("hub_token"):
        raise InputError(
            "--hub_token would lie in the pipeline's parameters for everyone to read", "set HF_TOKEN for the steps"
        )
    if values.get("do_train") is False:
        raise InputError(
            "--do_train is false, but the pipeline evaluates what it trains",
            "use `headrace train` to prepare data only, `headrace evaluate` to score a model",
        )
    if JOB in str(values.get("publish") or ""):
        raise InputError(
            f"--publish has {JOB} in it, which is for --store", "published models have versions of their own there"
        )
    typed: dict[str, Any] = {name: str(values.get(name) or "") for name in TEXTS}
    typed |= {name: values[name] for name in OTHERS if values.get(name) is not None}
    rest = {name: v for name, v in values.items() if name not in (*TEXTS, *OTHERS, "output_dir") and v is not None}
    if typed.get("nproc_per_node"):
        rest.setdefault("world_size", typed.get("num_nodes", 1) * typed["nproc_per_node"])  # validation looks at it
    return {**typed, "arguments": rest, "output_root": output_root}


def _check_json(name: str, value: Any) -> None:
    """InputError unless a value comes out of JSON as it went in; numbers there are floats, as in kfp's own messages."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        same = json.loads(text.encode(), parse_int=float) == value
    except (ValueError, TypeError):  # nan; bytes that were no text; a date, which YAML makes of one without quotes
        same = False
    if not same:
        shown = repr(value)
        raise InputError(
            f"--{name} is {shown if len(shown) <= 80 else shown[:80] + '…'}, which no parameter of a pipeline can hold",
            "numbers must be finite and at most 2^53, text UTF-8, names within an object text; quote dates",
        )


def require(values: Mapping[str, Any]) -> None:
    """InputError for the first parameter that a run cannot do without."""
    for name in REQUIRED:
        if not values.get(name) and not (name == "dataset_name" and values.get(MIXTURE)):
            raise InputError(
                f"--{name} is missing", "give it as a flag or in the --config file; `--help` has an example"
            )


def absolute(path: str) -> str:
    """A path that means the same from any folder; URIs as they are."""
    return path if "://" in path else str(Path(path).absolute())
