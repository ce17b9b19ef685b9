"""`headrace list`: the runs of a back end, the newest first."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from itertools import islice
from typing import Any

from headrace.errors import EXIT_DONE, InputError
from headrace_pipelines.connection import FLAGS, Connection, connect, parser
from headrace_pipelines.display import duration
from headrace_pipelines.runs import known_experiment, runs

LIMIT, MOST = 20, 1_000_000
_NEVER = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
"""What servers may give for a time that has not come."""
USAGE = f"""usage: headrace list [FLAGS]

List runs, the newest first.

  --experiment NAME    only those of one experiment (default: all of the namespace)
  --limit N            how many at most (default: {LIMIT})
  --json               a JSON object a line: id, name, state, experiment_id, created_at, finished_at, page

{FLAGS}

example:
  headrace list --experiment nightly --limit 5 --host https://kubeflow.example.org"""


def main(argv: Sequence[str]) -> int:
    """Print the runs."""
    if {"-h", "--help"} & set(argv):
        print(USAGE)
        return EXIT_DONE
    own = parser("list")
    own.add_argument("--experiment")
    own.add_argument("--limit", type=int, default=LIMIT)
    own.add_argument("--json", action="store_true")
    args = own.parse_args(argv)
    if not 1 <= args.limit <= MOST:
        raise InputError(f"--limit is {args.limit}", f"expected 1 to {MOST:,}")
    connection = connect(args)
    experiment_id = known_experiment(connection, args.experiment) if args.experiment else None
    found = list(islice(runs(connection, experiment_id=experiment_id), args.limit))
    if args.json:
        for run in found:
            print(json.dumps(_facts(connection, run), ensure_ascii=False))
        return EXIT_DONE
    print(_table(found) if found else "no runs")
    return EXIT_DONE


def _facts(connection: Connection, run: Any) -> dict[str, str | None]:
    return {
        "id": run.run_id, "name": run.display_name, "state": run.state, "experiment_id": run.experiment_id,
        "created_at": _iso(run.created_at), "finished_at": _iso(_end(run)), "page": connection.page(run.run_id),
    }  # fmt: skip


def _table(found: Sequence[Any]) -> str:
    from tabulate import tabulate

    rows = [
        (run.display_name, run.state or "PENDING", _minute(run.created_at), _took(run), run.run_id) for run in found
    ]
    return tabulate(rows, headers=("name", "state", "created (UTC)", "took", "id"), tablefmt="plain")


def _minute(time: datetime.datetime | None) -> str:
    return "" if time is None else time.strftime("%Y-%m-%d %H:%M")


def _took(run: Any) -> str:
    end = _end(run)
    return "" if end is None or run.created_at is None else duration((end - run.created_at).total_seconds())


def _end(run: Any) -> datetime.datetime | None:
    """When a run ended; one that goes on has none, or the start of an epoch."""
    end: datetime.datetime | None = run.finished_at
    return end if end not in (None, _NEVER) and end >= (run.created_at or end) else None


def _iso(time: datetime.datetime | None) -> str | None:
    return None if time is None else time.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
