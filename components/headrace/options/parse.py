"""Command line, file and defaults, in that order of strength, to one `Options`."""

from __future__ import annotations

import argparse
import difflib
import json
import shutil
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import yaml

from headrace.errors import InputError
from headrace.options.bounds import check_numbers
from headrace.options.groups import (
    DatasetOptions,
    EvaluateOptions,
    ModelOptions,
    Options,
    PlanOptions,
    TrackingOptions,
    TrainOptions,
    ValidateOptions,
)
from headrace.options.places import check_places
from headrace.options.training import REMOVED, training_flags
from headrace.stream.addresses import refuse_secrets

GROUPS: dict[str, type] = {
    "dataset": DatasetOptions,
    "model": ModelOptions,
    "validate": ValidateOptions,
    "train": TrainOptions,
    "evaluate": EvaluateOptions,
    "tracking": TrackingOptions,
    "plan": PlanOptions,
}
# The TrainingArguments a reader of --help wants first; --help_all lists the rest.
COMMON_TRAINING = (
    "output_dir",
    "do_train",
    "do_eval",
    "max_steps",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "logging_steps",
    "save_steps",
    "save_total_limit",
    "eval_strategy",
    "eval_steps",
    "bf16",
    "seed",
    "dataloader_num_workers",
    "resume_from_checkpoint",
)
TRUE, FALSE = ("true", "yes", "1", "on", "t", "y"), ("false", "no", "0", "off", "f", "n")


@dataclass(frozen=True)
class Flag:
    """One name a user may set. kind: bool, int, float, str, list or dict."""

    name: str
    group: str
    kind: str
    default: Any
    choices: tuple[str, ...]
    help: str


@cache
def known_flags() -> dict[str, Flag]:
    """Every name, Headrace's own before `TrainingArguments`'."""
    found: dict[str, Flag] = {}
    for group, cls in GROUPS.items():
        hints = typing.get_type_hints(cls)
        for f in fields(cls):
            kind = _kind(hints[f.name])
            found[f.name] = Flag(f.name, group, kind, f.default, f.metadata.get("choices", ()), f.metadata["help"])
    for t in training_flags().values():
        if t.name != "debug":  # `--debug` is Headrace's; its values go on to Trainer, see parse_arguments
            default = True if t.name == "do_train" else t.default  # `headrace train` trains unless told not to
            found.setdefault(t.name, Flag(t.name, "training", t.kind, default, t.choices, t.help))
    return found


def _kind(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
    return "list" if typing.get_origin(hint) is list else str(hint.__name__)


def convert(flag: Flag, value: Any) -> Any:
    """`value`, a string or what YAML made of one, as the flag's kind; InputError says what was expected."""
    if value is None or (flag.kind != "str" and isinstance(value, str) and value.lower() in ("none", "null")):
        return None
    try:
        result = _convert(flag.kind, value)
    except (ValueError, TypeError, OverflowError):
        raise InputError(
            f"--{flag.name} wants {_article(flag.kind)}, found {_short(value)}", f"see `--help` for --{flag.name}"
        ) from None
    if flag.choices and str(result) not in flag.choices:
        raise InputError(
            f"--{flag.name} is {result!r}, expected one of {', '.join(flag.choices)}"
            + _nearest(str(result), flag.choices)
        )
    return result


def _convert(kind: str, value: Any) -> Any:
    if kind == "bool":
        if isinstance(value, bool):
            return value
        word = str(value).lower()
        if word not in TRUE + FALSE:
            raise ValueError(word)
        return word in TRUE
    if kind == "int":
        if isinstance(value, bool) or float(value) != int(float(value)):
            raise ValueError(value)
        return int(float(value)) if not isinstance(value, str) else int(value)
    if kind == "float":
        if isinstance(value, bool):
            raise ValueError(value)
        return float(value)
    if kind == "list":
        return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]
    if kind == "dict":
        # TrainingArguments' own dict fields also take the path of a JSON file, or plain text (fsdp, optim_args).
        if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
            return json.loads(value)
        return value
    return value if isinstance(value, str) else str(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"


def _article(kind: str) -> str:
    return {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "dict": "a JSON object",
    }.get(kind, "text")


def _nearest(word: str, choices: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(choices), n=3, cutoff=0.6)
    return f" (nearest: {', '.join(near)})" if near else ""


def unknown(name: str) -> InputError:
    """The error for a name nobody knows: its replacement if it was removed, else the nearest names."""
    if name in REMOVED and REMOVED[name] != name:
        return InputError(f"--{name} is gone from TrainingArguments", f"use {REMOVED[name]}")
    return InputError(f"no flag is called --{name}" + _nearest(name, known_flags()), "`--help_all` lists every flag")


def parse_mapping(values: Mapping[str, Any]) -> Options:
    """Options from plain names and values (a file, a pipeline's arguments); InputError names what does not fit."""
    flags = known_flags()
    # Before any other mistake is told with the value.
    check_places({name.replace("-", "_"): value for name, value in values.items()})
    parts: dict[str, dict[str, Any]] = {g: {} for g in (*GROUPS, "training")}
    given: set[str] = set()
    debug = False
    for name, value in values.items():
        key = name.replace("-", "_")
        if key == "debug":
            debug = debug or value is True
            if value not in (True, False, None, []):
                parts["training"]["debug"] = value
            continue
        if key not in flags:
            raise unknown(name)
        converted = convert(flags[key], value)
        if converted is None and flags[key].default is not None and flags[key].kind != "str":
            continue  # "null" in a file means: the default
        given.add(key)
        parts[flags[key].group][key] = converted
    for group in parts.values():
        check_numbers(group)
    return Options(
        **{g: cls(**parts[g]) for g, cls in GROUPS.items()},
        training=parts["training"],
        given=frozenset(given),
        debug=debug,
    )


def read_config(path: str) -> dict[str, Any]:
    """The mapping in a YAML or JSON file; InputError with the place of a mistake."""
    try:
        loaded = yaml.safe_load(Path(path).read_text("utf-8"))
    except OSError as e:
        raise InputError(f"cannot read --config {path}: {e.strerror}") from None
    except (yaml.YAMLError, ValueError) as e:  # ValueError: bytes that are no text, a date that is none
        raise InputError(f"--config {path} is not YAML or JSON: {e}") from None
    if not isinstance(loaded, dict):
        raise InputError(f"--config {path} holds {type(loaded).__name__}, expected names and values")
    return {str(k): v for k, v in loaded.items()}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message, f"`{self.prog} --help` shows the flags")


def build_parser(prog: str, description: str, example: str, groups: Sequence[str], *, show_all: bool) -> _Parser:
    """A parser of every flag that shows those of `groups` (and, with show_all, all of them)."""
    parser = _Parser(
        prog=prog,
        usage=f"{prog} [--config FILE] [--FLAG VALUE ...]",
        description=description,
        epilog=f"example:\n{example}",
        allow_abbrev=False,
        formatter_class=_wide,
        add_help=False,
    )
    general = parser.add_argument_group("general")
    general.add_argument("--config", metavar="FILE", help="YAML or JSON file of the same names; flags win")
    general.add_argument("--debug", nargs="*", help="show tracebacks (values go on to TrainingArguments.debug)")
    general.add_argument("-h", "--help", action="store_true", help="show this and exit")
    general.add_argument("--help_all", action="store_true", help="show the flags of every step, and exit")
    sections = {
        "plan": "planning",
        "dataset": "dataset",
        "model": "model",
        "validate": "validation",
        "train": "training, Headrace's own",
        "evaluate": "evaluation and publishing",
        "tracking": "tracking",
        "training": "training: every TrainingArguments name of transformers"
        + ("" if show_all else " (the common ones)"),
    }
    made = {g: parser.add_argument_group(title) for g, title in sections.items() if show_all or g in groups}
    for flag in known_flags().values():
        shown = flag.group in made and (show_all or flag.group != "training" or flag.name in COMMON_TRAINING)
        _add(made.get(flag.group, parser), flag, shown=shown)
    return parser


def _wide(prog: str) -> argparse.HelpFormatter:
    columns = min(120, shutil.get_terminal_size((110, 24)).columns)
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=36, width=columns)


def _add(target: Any, flag: Flag, *, shown: bool) -> None:
    default = (
        ""
        if flag.default in (None, [], "")
        else f" (default: {str(flag.default).lower() if flag.kind == 'bool' else flag.default})"
    )
    text = (flag.help + default).replace("%", "%%") if shown else argparse.SUPPRESS
    kwargs: dict[str, Any] = {"dest": flag.name, "default": argparse.SUPPRESS, "help": text}
    metavar = flag.kind.upper() if not flag.choices or len(flag.choices) > 4 else "|".join(flag.choices)
    if flag.kind == "bool":
        target.add_argument(f"--{flag.name}", nargs="?", const=True, metavar="BOOL", **kwargs)
        if flag.default is True:
            target.add_argument(
                f"--no_{flag.name}", action="store_const", const=False, dest=flag.name,
                default=argparse.SUPPRESS, help=argparse.SUPPRESS,
            )  # fmt: skip
    elif flag.kind == "list":
        target.add_argument(f"--{flag.name}", nargs="+", action="extend", metavar="TEXT", **kwargs)
    else:
        target.add_argument(f"--{flag.name}", metavar=metavar, **kwargs)


def parse_arguments(
    argv: Sequence[str], *, prog: str, description: str, example: str, groups: Sequence[str]
) -> Options:
    """Options of one command; prints help and exits when asked; InputError for anything it cannot use."""
    return parse_mapping(arguments(argv, prog=prog, description=description, example=example, groups=groups))


def arguments(
    argv: Sequence[str], *, prog: str, description: str, example: str, groups: Sequence[str]
) -> dict[str, Any]:
    """Names and values of one command line over its `--config` file, not yet converted."""
    normal = [_underscored(a) for a in argv]
    parser = build_parser(prog, description, example, groups, show_all="--help_all" in normal)
    if {"-h", "--help", "--help_all"} & set(normal):
        parser.print_help()
        raise SystemExit(0)
    known, rest = parser.parse_known_args(normal)
    refuse_secrets("the command line", rest)
    for word in rest:
        if word.startswith("--"):
            raise unknown(word[2:].split("=")[0])
        raise InputError(f"found {word!r} where a --flag was expected")
    values = vars(known)
    for name in ("help", "help_all"):
        values.pop(name)
    config, debug = values.pop("config"), values.pop("debug")
    check_places({"config": config})
    merged = {**(read_config(config) if config else {}), **values}
    if debug is not None:
        merged["debug"] = debug or True
    return merged


def _underscored(word: str) -> str:
    """`--max-steps=5` as `--max_steps=5`: transformers takes both spellings."""
    if not word.startswith("--") or word == "--":
        return word
    name, sep, value = word.partition("=")
    return "--" + name[2:].replace("-", "_") + sep + value
