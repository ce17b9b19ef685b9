"""The `headrace` command: finds the subcommand, which brings its own imports."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import headrace
from headrace.entry import explain
from headrace.errors import EXIT_DONE, EXIT_INPUT, HeadraceError, InputError


class Command(NamedTuple):
    """Where a subcommand lives, what it does, and the extra of the package that it needs."""

    module: str
    says: str
    extra: str


COMMANDS = {
    "validate": Command("headrace.validate.__main__", "is the stream fit to train on? (no torch)", ""),
    "train": Command("headrace.train.__main__", "train on the stream, or go on training", "train"),
    "evaluate": Command("headrace.evaluate.__main__", "score a model on held-out documents and publish it", "evaluate"),
    "run": Command("headrace_pipelines.local", "the whole pipeline on this machine", "pipeline"),
    "compile": Command("headrace_pipelines.compiling", "the pipeline as a package for Kubeflow", "pipeline"),
    "submit": Command("headrace_pipelines.submit", "start a run on Kubeflow", "pipeline"),
}
STEPS = ("validate", "train", "evaluate")


def usage() -> str:
    """What `headrace --help` prints."""

    def listed(names: Sequence[str]) -> str:
        return "\n".join(f"  {name:10s} {COMMANDS[name].says}" for name in names)

    return (
        "usage: headrace COMMAND [FLAGS]\n\n"
        "Train language models on datasets too large to download: same tokens, same order.\n\n"
        f"one step:\n{listed(STEPS)}\n\n"
        f"the pipeline:\n{listed([c for c in COMMANDS if c not in STEPS])}\n\n"
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
        return _command(words[0])(words[1:])
    except HeadraceError as error:
        return explain(error, debug="--debug" in words)


def _command(name: str) -> Callable[[Sequence[str]], int]:
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        raise InputError(
            f"there is no command {name!r}" + (f" (nearest: {near[0]})" if near else ""), "`headrace --help` lists them"
        )
    try:
        main_of: Callable[[Sequence[str]], int] = importlib.import_module(COMMANDS[name].module).main
    except ModuleNotFoundError as error:
        raise missing(name, error) from error
    return main_of


def missing(name: str, error: ModuleNotFoundError) -> InputError:
    """The error for a command whose packages are not installed."""
    return InputError(
        f"`headrace {name}` needs the package {error.name}",
        f"install it: pip install 'headrace[{COMMANDS[name].extra or name}]'",
    )


if __name__ == "__main__":
    sys.exit(main())
