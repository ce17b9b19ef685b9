"""Writes the table of `TrainingArguments` that the torch-free steps read: `python -m headrace.train.flags`."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

KINDS = {"int": "int", "float": "float", "bool": "bool", "string_to_bool": "bool"}
# Their fields take a JSON object (or the path of one), which HfArgumentParser declares as plain text.
DICTS = ("_kwargs", "_config")
DICT_NAMES = ("optim_args", "fsdp", "deepspeed")


def table() -> dict[str, Any]:
    """Every flag of the installed `TrainingArguments`: name, kind, default, choices and the first line of its help."""
    from transformers import HfArgumentParser, TrainingArguments

    rows = {}
    for action in HfArgumentParser(TrainingArguments)._actions:  # type: ignore[arg-type]
        if isinstance(action, argparse._HelpAction) or action.dest in rows:
            continue
        rows[action.dest] = {
            "name": action.dest,
            "kind": _kind(action),
            "default": getattr(action.default, "value", action.default),
            "choices": [str(getattr(c, "value", c)) for c in action.choices or ()],
            "help": " ".join((action.help or "").split()).split(". ")[0].rstrip(".")[:160],
        }
    return {"source": "transformers.TrainingArguments", "flags": list(rows.values())}


def _kind(action: argparse.Action) -> str:
    if action.dest.endswith(DICTS) or action.dest in DICT_NAMES:
        return "dict"
    if action.nargs == "+":
        return "list"
    return KINDS.get(getattr(action.type, "__name__", ""), "str")


def rendered() -> str:
    """The table as the file holds it."""
    return json.dumps(table(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    path = Path(str(files("headrace.options").joinpath("training_arguments.json")))
    path.write_text(rendered(), "utf-8")
    sys.stdout.write(f"wrote {path}\n")
