"""`headrace schedule NAME --cron … -- FLAGS`: a run again and again, by Kubeflow's own scheduler."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Iterator, Sequence
from typing import Any

from headrace.errors import EXIT_DONE, HeadraceError, InputError
from headrace_pipelines.connection import FLAGS, Connection, connect, parser
from headrace_pipelines.cron import next_times, with_seconds
from headrace_pipelines.launching import Launch, launch, split
from headrace_pipelines.runs import EXPERIMENT, PAGE, experiment_name, find_or_make, known_experiment, named, pages

EXAMPLE = """  headrace schedule nightly --cron '30 2 * * 1-5' --no_catchup --host https://kubeflow.example.org -- \\
      --dataset_name gs://corpus/today --model_name_or_path gs://models/gpt2 --store gs://checkpoints/nightly"""
USAGE = f"""usage: headrace schedule NAME --cron 'M H D M W' [FLAGS] -- FLAGS OF THE STEPS
       headrace schedule --list | --delete NAME | --pause NAME | --resume NAME [FLAGS]

Start the pipeline again and again, with the script's own flags after `--`. The same command makes no second
schedule. Times are UTC, unless the back end sets CRON_SCHEDULE_TIMEZONE.

  --cron 'M H D M W'   minute, hour, day, month, weekday; the next three times are printed
  --no_catchup         after a pause, start the latest missed run only, not every one
  --max_concurrency N  runs at the same time, 1 to 10 (default: 1)
  --cluster FILE       what the steps get, as for `headrace submit`
  --experiment NAME    made when missing (default: {EXPERIMENT}; with --list: all of the namespace)
  --list               what is scheduled
  --delete NAME        end a schedule; its runs stay
  --pause, --resume    stop and go on with a schedule

{FLAGS}

example:
{EXAMPLE}"""


def main(argv: Sequence[str]) -> int:
    """Make, list, pause, resume or delete a schedule."""
    words, rest = split(argv)
    if {"-h", "--help"} & set(words):
        print(USAGE)
        return EXIT_DONE
    args = _parse(words)
    if args.list:
        return _list(args)
    for verb in ("delete", "pause", "resume"):
        if getattr(args, verb):
            return _change(args, verb, getattr(args, verb))
    if not args.name or not args.cron:
        raise InputError("a schedule needs NAME and --cron", "`headrace schedule --help` has an example")
    cron, now = with_seconds(args.cron), datetime.datetime.now(datetime.UTC)
    times = next_times(args.cron, now)
    made = _schedule(launch(args, "schedule", rest, EXAMPLE), args, cron)
    print(f"schedule   {args.name}\nid         {made.recurring_run_id}\ncron       {cron} (seconds first)")
    print("".join(f"next       {time:%a %Y-%m-%d %H:%M} UTC\n" for time in times), end="")
    return EXIT_DONE


def _parse(words: Sequence[str]) -> argparse.Namespace:
    own = parser("schedule")
    own.add_argument("name", nargs="?")
    for flag in ("--cron", "--experiment", "--cluster", "--delete", "--pause", "--resume"):
        own.add_argument(flag)
    for flag in ("--no_catchup", "--list"):
        own.add_argument(flag, action="store_true")
    own.add_argument("--max_concurrency", type=int, default=1)
    args = own.parse_args(words)
    asked = [flag for flag in ("list", "delete", "pause", "resume", "cron") if getattr(args, flag)]
    if len(asked) > 1 or (args.name and asked and asked != ["cron"]):
        raise InputError(
            f"--{asked[0]} stands alone", "one of NAME --cron, --list, --delete NAME, --pause NAME, --resume NAME"
        )
    if not 1 <= args.max_concurrency <= 10:
        raise InputError(f"--max_concurrency is {args.max_concurrency}", "expected 1 to 10")
    return args


def _schedule(made: Launch, args: argparse.Namespace, cron: str) -> Any:
    """The schedule of that name, made unless it is there; InputError when one of that name differs."""
    connection = made.connection

    def find() -> Any:
        for other in _schedules(connection, made.experiment_id, args.name):
            trigger = other.trigger.cron_schedule if other.trigger else None
            there = (trigger and trigger.cron, bool(other.no_catchup), int(other.max_concurrency or 1))
            if made.same(other) and there == (cron, args.no_catchup, args.max_concurrency):
                return other
            raise InputError(
                f"the schedule {args.name} ({other.recurring_run_id}) has other times, flags or version",
                f"end it first: headrace schedule --delete {args.name}",
            )
        return None

    def make() -> Any:
        return connection.ask(
            lambda: connection.client.create_recurring_run(
                made.experiment_id, args.name, cron_expression=cron, no_catchup=args.no_catchup,
                max_concurrency=args.max_concurrency, params=dict(made.arguments),
                pipeline_id=made.version.pipeline_id, version_id=made.version.version_id,
                service_account=made.service_account,
            )
        )  # fmt: skip

    return find_or_make(find, make)


def _schedules(connection: Connection, experiment_id: str | None = None, name: str | None = None) -> Iterator[Any]:
    yield from pages(
        lambda token: connection.ask(
            lambda: connection.client.list_recurring_runs(
                page_token=token, page_size=PAGE, sort_by="created_at desc", experiment_id=experiment_id,
                namespace=connection.namespace, filter=None if name is None else named(name),
            )
        ),
        "recurring_runs",
    )  # fmt: skip


def _list(args: argparse.Namespace) -> int:
    from tabulate import tabulate

    connection = connect(args)
    where = known_experiment(connection, args.experiment) if args.experiment else None
    rows = []
    for made in _schedules(connection, where):
        trigger = made.trigger
        cron, periodic = (trigger.cron_schedule, trigger.periodic_schedule) if trigger else (None, None)
        times = cron.cron if cron else f"every {periodic.interval_second} s" if periodic else ""
        rows.append((made.display_name, made.status, times, made.recurring_run_id))
    heads = ("name", "state", "cron (seconds first)", "id")
    print(tabulate(rows, headers=heads, tablefmt="plain") if rows else "no schedules")
    return EXIT_DONE


def _change(args: argparse.Namespace, verb: str, name: str) -> int:
    """Delete, pause or resume the schedule of that name, of which there must be one."""
    connection = connect(args)
    where = known_experiment(connection, experiment_name(args.experiment))
    found = list(_schedules(connection, where, name))
    if len(found) != 1:
        raise InputError(f"there are {len(found)} schedules called {name!r}", "`headrace schedule --list` shows them")
    schedule_id, client = found[0].recurring_run_id, connection.client
    calls = {
        "delete": client.delete_recurring_run, "pause": client.disable_recurring_run,
        "resume": client.enable_recurring_run,
    }  # fmt: skip
    try:
        connection.ask(lambda: calls[verb](schedule_id))
    except InputError:
        raise
    except HeadraceError as error:
        raise HeadraceError(error.message, "run the same command again: it does no harm") from None
    print(f"{verb}d    {name} ({schedule_id})")
    return EXIT_DONE
