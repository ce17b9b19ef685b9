"""How every step starts and ends: flags in, `outcome.json` and an exit code out."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from headrace.artifacts.outcome import write_outcome
from headrace.errors import EXIT_DONE, EXIT_FAILURE, HeadraceError, InputError
from headrace.images import check_running
from headrace.inputs import required
from headrace.options import Options, parse_arguments, parse_mapping

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a write says when there is no room for it: on the disk, for this account, or in a file."""
Work = Callable[[Options, Path], Mapping[str, Any]]
"""A step: options and output folder in, facts for `outcome.json` out; HeadraceError when it cannot."""


def run_command(
    room: str,
    argv: Sequence[str] | None,
    *,
    description: str,
    example: str,
    groups: Sequence[str],
    work: Work,
) -> int:
    """Run one step from its command line; its exit code. Errors are one line on stderr and what to do."""
    debug = False
    try:
        options = parse_arguments(
            sys.argv[1:] if argv is None else argv,
            prog=f"headrace {room}", description=description, example=example, groups=groups,
        )  # fmt: skip
        debug = options.debug
        required(options, "output_dir")
        log_to_stderr(options)
        run_component(work, options, Path(str(options.training["output_dir"])))
    except HeadraceError as error:
        return explain(error, debug=debug)
    except KeyboardInterrupt:
        print("headrace: stopped by the keyboard", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            return explain(_full(error), debug=debug)
        # Every line of a bug's traceback is wanted; of a user's mistake, none.
        traceback.print_exc()
        print(f"headrace: error: {type(error).__name__}: {error}", file=sys.stderr)
        return EXIT_FAILURE
    return EXIT_DONE


def _full(error: OSError) -> HeadraceError:
    where = f" {error.filename}" if error.filename else ""
    return HeadraceError(f"cannot write{where}: {os.strerror(error.errno or 0)}", "make room, then run the same again")


def run_component(work: Work, options: Options, output_dir: Path) -> dict[str, Any]:
    """Run one step and leave `outcome.json` in its folder, also when it fails; the error goes on to the caller."""
    ready(output_dir)
    try:
        check_running()
        facts = dict(work(options, output_dir))
    except HeadraceError as error:
        _leave(output_dir, error.exit_code, error.message, error.remedy)
        raise
    except BaseException as error:
        _leave(output_dir, EXIT_FAILURE, f"{type(error).__name__}: {error}", "")
        raise
    _leave(output_dir, EXIT_DONE, "", "", **facts)
    return facts


def task_options(values: Mapping[str, Any]) -> Options:
    """Options from a component's parameters, of which empty ones were not given.

    From here on SIGTERM ends this process: kfp's shell, which the images' entry point has ignore it, passes that on.
    """
    if signal.getsignal(signal.SIGTERM) == signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return parse_mapping({k: v for k, v in values.items() if v not in ("", None)})


@contextmanager
def task_folder(output_root: str, room: str) -> Iterator[Path]:
    """The folder of one step below `output_root`, or one that lasts as long as the task."""
    if output_root:
        yield Path(output_root) / room
    else:
        with tempfile.TemporaryDirectory(prefix=f"headrace-{room}-") as scratch:
            yield Path(scratch)


def ready(output_dir: Path) -> None:
    """Make the output folder; InputError when it cannot be written."""
    from headrace.artifacts.storage import open_store

    if "://" in str(output_dir) or ":/" in str(output_dir):
        raise InputError(
            f"--output_dir is {output_dir}; expected a folder on this machine",
            "name a bucket with --store (checkpoints) or --publish (results)",
        )
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the folder {output_dir}: {error.strerror}",
            f"set --output_dir to a folder that user {os.getuid()} may write to",
        ) from error
    open_store(str(output_dir)).check_writable()


def _leave(output_dir: Path, code: int, error: str, remedy: str, **facts: Any) -> None:
    if int(os.environ.get("RANK", "0")) != 0:  # one rank speaks for a step
        return
    try:
        write_outcome(output_dir, code, error, remedy, **facts)
    except OSError as failed:
        if code == EXIT_DONE:
            raise
        print(f"headrace: cannot leave outcome.json in {output_dir}: {failed.strerror}", file=sys.stderr)


def leave(code: int) -> NoReturn:
    """End this process. After a failure at once: an upload that hangs, or a peer that is gone, is not waited for."""
    if code == EXIT_DONE:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def explain(error: HeadraceError, *, debug: bool = False) -> int:
    """Print an error as users see it; its exit code."""
    if debug:
        traceback.print_exception(error)
    if int(os.environ.get("RANK", "0")) == 0 and not error.told:
        print(f"headrace: error: {error.message}", file=sys.stderr)
        if error.remedy:
            print(f"  {error.remedy}", file=sys.stderr)
    return error.exit_code


def log_to_stderr(options: Options) -> None:
    """Information-level logging to stderr, or what --log_level says; rank 0 only, warnings from the others."""
    named = str(options.training.get("log_level", "passive")).upper()
    level = getattr(logging, named, logging.INFO) if named != "PASSIVE" else logging.INFO
    if int(os.environ.get("RANK", "0")) != 0:
        level = logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger("headrace")
    root.handlers = [handler]
    root.setLevel(level)
    root.propagate = False
    # It logs tracebacks of what is told in one line, or tried again with a word, by whoever called it.
    logging.getLogger("gcsfs").addHandler(logging.NullHandler())
