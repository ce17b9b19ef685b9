"""`headrace watch RUN`: the steps of a run and their states until it ends."""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from headrace.errors import EXIT_DONE, HeadraceError, InputError, Refused
from headrace_pipelines.committed import Committed
from headrace_pipelines.connection import FLAGS, Connection, connect, parser
from headrace_pipelines.display import display
from headrace_pipelines.runs import ENDED, find_run
from headrace_pipelines.steps import Step, failed, refused, steps

T = TypeVar("T")
POLL_S = 5.0
PATIENCE_S = 300.0
LONGEST_PAUSE_S = 30.0
LONGEST_S = 31_622_400.0
"""A year, which no flag for a time may exceed: the clock's own calls raise for much more."""
INTERRUPTED = 130
PACE = f"""  --poll_s S           seconds between two looks (default: {POLL_S:g})
  --patience_s S       how long a back end that is away is waited for (default: {PATIENCE_S:g})"""
USAGE = f"""usage: headrace watch RUN [FLAGS]

Show the steps of a run, their states and times until it ends. Ctrl-C leaves the run going.

  RUN                  id of a run, or a name: the newest run of it
{PACE}

{FLAGS}

Exit code: 0 succeeded; 1 failed, canceled or skipped, or lost sight of; 2 the back end refuses to answer;
3 the run was refused: a no-go, or the gate.
The API has no metrics. Where the run's --store can be read from here, the newest committed step and its loss are
shown; the others are in the steps' reports, on the run's page.

example:
  headrace watch gpt2training-stream --host https://kubeflow.example.org"""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often to look, and for how long in vain; seconds."""

    poll_s: float = POLL_S
    patience_s: float = PATIENCE_S


@dataclass(frozen=True, kw_only=True)
class End:
    """How a run ended."""

    run: Any
    steps: tuple[Step, ...]


def main(argv: Sequence[str]) -> int:
    """Watch a run; the exit code that its end has."""
    if {"-h", "--help"} & set(argv):
        print(USAGE)
        return EXIT_DONE
    own = parser("watch")
    own.add_argument("run")
    pace_flags(own)
    args = own.parse_args(argv)
    at = pace(args)
    connection = connect(args)
    return watch(connection, str(find_run(connection, args.run).run_id), at)


def pace_flags(own: argparse.ArgumentParser) -> None:
    """Add the flags that `pace` reads."""
    own.add_argument("--poll_s", type=float, default=POLL_S)
    own.add_argument("--patience_s", type=float, default=PATIENCE_S)


def pace(args: argparse.Namespace) -> Pace:
    """The pace that the flags ask for."""
    check_s("--poll_s", args.poll_s, zero=False)
    check_s("--patience_s", args.patience_s)
    return Pace(poll_s=args.poll_s, patience_s=args.patience_s)


def check_s(flag: str, value: float, *, zero: bool = True) -> None:
    """InputError unless a flag's value is a number of seconds that one can wait for; `zero`: or 0."""
    if not (0 <= value <= LONGEST_S and (zero or value)):  # nan is in no bounds
        raise InputError(
            f"{flag} is {value:g}", f"expected seconds: {'0' if zero else 'more than 0'}, to {LONGEST_S:,.0f} at most"
        )


def watch(connection: Connection, run_id: str, at: Pace) -> int:
    """Follow a run in the terminal to its end; 0 when it succeeded.

    Refused for a no-go or a gate, HeadraceError when it failed, was canceled or skipped.
    """
    try:
        end = follow(connection, run_id, at)
    except KeyboardInterrupt:
        print(f"stopped watching; the run goes on (`headrace cancel {run_id}` ends it)", file=sys.stderr)
        return INTERRUPTED
    print(f"state      {end.run.state}")
    if end.run.state != "SUCCEEDED":
        raise _verdict(connection, end)
    return EXIT_DONE


def follow(connection: Connection, run_id: str, at: Pace) -> End:
    """Show a run until it ends; HeadraceError when the back end is away for too long, or refuses."""
    spec: Any = None
    training: Committed | None = None
    with display() as shown:
        while True:
            run = look(connection, run_id, at, shown.note)
            if spec is None:
                spec = _spec(connection, run, shown.note)
            if training is None:
                training = Committed((run.runtime_config.parameters if run.runtime_config else None) or {}, run_id)
            details = run.run_details.task_details if run.run_details else None
            now = steps(spec or None, details or (), datetime.datetime.now(datetime.UTC))
            shown.look(
                str(run.display_name or run_id),
                str(run.state or "PENDING"),
                now,
                [*facts(run), *training.facts(shown.note)],
            )
            if run.state in ENDED:
                return End(run=run, steps=now)
            time.sleep(at.poll_s)


def look(connection: Connection, run_id: str, at: Pace, note: Callable[[str], None]) -> Any:
    """The run as it is now, asked for until `patience_s` are over."""
    return patiently(lambda: connection.ask(lambda: connection.client.get_run(run_id)), run_id, at, note)


def patiently(ask: Callable[[], T], run_id: str, at: Pace, note: Callable[[str], None]) -> T:
    """What `ask` returns, asked for with longer and longer pauses until `patience_s` are over.

    Errors say that the run itself goes on.
    """
    pause_s, until = at.poll_s, time.monotonic() + at.patience_s
    while True:
        try:
            return ask()
        except InputError as error:
            raise InputError(error.message, f"{error.remedy}; whatever the run does, it goes on") from None
        except HeadraceError as error:
            if time.monotonic() + pause_s > until:
                raise HeadraceError(
                    f"lost sight of the run {run_id}: {error.message}",
                    "it goes on without us; the same command looks again",
                ) from None
            note(f"{error.message}; looking again in {pause_s:.3g} s")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, max(LONGEST_PAUSE_S, at.poll_s))


def facts(run: Any) -> list[tuple[str, str]]:
    """What plugins of the back end, such as one for MLflow, say of a run."""
    told = []
    for plugin, output in sorted((run.plugins_output or {}).items()):
        told += [(f"{plugin} {key}", str(entry.value)) for key, entry in sorted((output.entries or {}).items())]
    return told


def _spec(connection: Connection, run: Any, note: Callable[[str], None]) -> Any:
    """The pipeline of a run, {} when it cannot be had."""
    version = run.pipeline_version_reference
    if run.pipeline_spec or version is None:
        return run.pipeline_spec or {}
    try:
        found = connection.ask(
            lambda: connection.client.get_pipeline_version(version.pipeline_id, version.pipeline_version_id)
        )
    except HeadraceError as error:
        note(f"steps that have not started are not shown: {error.message}")
        return {}
    return found.pipeline_spec or {}


def _verdict(connection: Connection, end: End) -> HeadraceError:
    run, name = end.run, end.run.display_name
    again = f"`headrace submit {name}` again goes on from the newest checkpoint in its --store"
    if run.state != "FAILED":
        return HeadraceError(f"the run {name} was {str(run.state).lower()}", again)
    if refused(end.steps):
        (step, *_) = failed(end.steps)
        return Refused(
            f"the run {name} was refused" + (f": {step.error}" if step.error else ""),
            f"the reports say why: {connection.page(run.run_id)}",
        )
    broken = failed(end.steps)
    where = ", ".join(step.name for step in broken) or "no step that the API names"
    why = next((step.error for step in broken if step.error), "") or (run.error.message if run.error else "")
    hint = f"`headrace logs {run.run_id}" + (f" --step {broken[0].name}" if broken else "") + "` shows the output"
    return HeadraceError(f"the run {name} failed in {where}" + (f": {why}" if why else ""), f"{hint}; {again}")
