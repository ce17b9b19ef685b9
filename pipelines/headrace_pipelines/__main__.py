"""The `headrace` command: finds the subcommand, which brings its own imports."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

import headrace
from headrace.entry import explain, leave
from headrace.errors import EXIT_DONE, EXIT_INPUT, HeadraceError, InputError


class Command(NamedTuple):
    """Where a subcommand lives, what it does, and the extras of the package that it needs."""

    module: str
    says: str
    extras: tuple[str, ...] = ()


COMMANDS = {
    "validate": Command("headrace.validate.__main__", "is the stream fit to train on? (no torch)"),
    "train": Command("headrace.train.__main__", "train on the stream, or go on training", ("train",)),
    "evaluate": Command(
        "headrace.evaluate.__main__", "score a model on held-out documents and publish it", ("evaluate",)
    ),
    "models": Command("headrace.evaluate.models", "published versions: list, show, roll back (no torch)"),
    "plan": Command("headrace.forecast.command", "what a training will take: time, memory, checkpoints (no torch)"),
    "peek": Command("headrace.audit.peek", "which documents a step trains (no torch)"),
    "verify-order": Command("headrace.audit.verify", "did a run train what its plan says? (no torch)"),
    "run": Command("headrace_pipelines.local", "the whole pipeline on this machine", ("pipeline", "train")),
    "compile": Command("headrace_pipelines.compiling", "the pipeline as a package for Kubeflow", ("pipeline",)),
    "submit": Command("headrace_pipelines.submit", "start a run on Kubeflow", ("pipeline",)),
    "watch": Command("headrace_pipelines.watch", "follow a run on Kubeflow to its end", ("pipeline",)),
    "list": Command("headrace_pipelines.listing", "the runs on Kubeflow", ("pipeline",)),
    "logs": Command("headrace_pipelines.logs", "what the steps of a run on Kubeflow print", ("pipeline",)),
    "cancel": Command("headrace_pipelines.cancel", "end a run on Kubeflow", ("pipeline",)),
    "schedule": Command("headrace_pipelines.schedule", "runs on Kubeflow by the clock", ("pipeline",)),
}
STEPS = ("validate", "train", "evaluate")
AROUND = ("plan", "models")
LOOKS = ("peek", "verify-order")
_TORCH = ("torch", "transformers", "accelerate")
PACKAGES = {"train": _TORCH, "evaluate": _TORCH, "pipeline": ("kfp",)}


def usage() -> str:
    """What `headrace --help` prints."""

    def listed(names: Sequence[str]) -> str:
        return "\n".join(f"  {name:13s} {COMMANDS[name].says}" for name in names)

    return (
        "usage: headrace COMMAND [FLAGS]\n\n"
        "Train language models on datasets too large to download: same tokens, same order.\n\n"
        f"one step:\n{listed(STEPS)}\n\n"
        f"before them, and after:\n{listed(AROUND)}\n\n"
        f"the order:\n{listed(LOOKS)}\n\n"
        f"the pipeline:\n{listed([c for c in COMMANDS if c not in (*STEPS, *AROUND, *LOOKS)])}\n\n"
        "`headrace COMMAND --help` has the flags and an example; --version prints the version.\n\n"
        "example:\n  headrace run --config examples/quickstart.yaml"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return EXIT_DONE if words else EXIT_INPUT
    if words[0] == "--version":
        print(f"headrace {headrace.__version__}")
        return EXIT_DONE
    try:
        if not {"-h", "--help", "--help_all"} & set(words):
            require_extras(words[0])
        return _main_of(words[0])(words[1:])
    except HeadraceError as error:
        return explain(error, debug="--debug" in words)
    except KeyboardInterrupt:
        print("headrace: stopped by the keyboard", file=sys.stderr)
        return 130


def require_extras(name: str) -> None:
    """InputError when the packages of a command are not installed: an image holds only those of its step."""
    for extra in known(name).extras:
        for package in PACKAGES[extra]:
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"`headrace {name}` needs the package {package}, which is not installed",
                    f"pip install 'headrace[{','.join(known(name).extras)}]'",
                )


def known(name: str) -> Command:
    """The subcommand of that name; InputError with the nearest one when there is none."""
    if name in COMMANDS:
        return COMMANDS[name]
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    raise InputError(
        f"there is no command {name!r}" + (f" (nearest: {near[0]})" if near else ""), "`headrace --help` lists them"
    )


def _main_of(name: str) -> Callable[[Sequence[str]], int]:
    main_of: Callable[[Sequence[str]], int] = importlib.import_module(known(name).module).main
    return main_of


def command() -> NoReturn:
    """The `headrace` script: `main` in a process of its own."""
    leave(main())


if __name__ == "__main__":
    command()
