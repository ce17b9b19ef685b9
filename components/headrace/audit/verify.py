"""`headrace verify-order OUTPUT_DIR`: replay a run from its source and compare each step with its ledger."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from headrace.audit.open import Opened, open_run, steps_of
from headrace.audit.peek import samples
from headrace.entry import log_to_stderr
from headrace.errors import EXIT_DONE, EXIT_FAILURE, InputError
from headrace.options import Options
from headrace.stream.digest import step_digest

USAGE = """usage: headrace verify-order OUTPUT_DIR [--step S:E]

Replay what a training says it trained, from its source, and compare every step with its ledger.
Exit 0 when all of them agree; 1 naming the first that does not and the documents that should be in it.

  OUTPUT_DIR     folder of a training
  --step S:E     only these steps (default: all that the ledger has)

example:
  headrace verify-order out"""
NAMED = 8
"""Documents of a differing step that are listed."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message, "`headrace verify-order --help` shows how it is called")


def main(argv: Sequence[str]) -> int:
    """Verify and say what was found; the exit code."""
    if {"-h", "--help"} & set(argv):
        print(USAGE)
        return EXIT_DONE
    parser = _Parser(prog="headrace verify-order", add_help=False, allow_abbrev=False)
    parser.add_argument("output_dir")
    parser.add_argument("--step")
    args = parser.parse_args(argv)
    log_to_stderr(Options())
    opened = open_run(Path(args.output_dir))
    first, last = steps_of(args.step) if args.step else (1, max(opened.ledger.digests, default=0))
    missing = next((s for s in range(first, last + 1) if s not in opened.ledger.digests), None)
    if missing is not None or not last:
        raise InputError(
            f"the ledger in {args.output_dir} has no step {missing or first}",
            "name the steps it has with --step S:E; a run that was copied needs its ledger folder too",
        )
    began = time.monotonic()
    differing = first_difference(opened, first, last)
    if differing is not None:
        print(_told(opened, differing))
        return EXIT_FAILURE
    count = (last - first + 1) * opened.plan.global_batch
    print(
        f"steps {first:,} to {last:,}: {count:,} samples replayed in {time.monotonic() - began:.1f} s, "
        "all as recorded\n"
        f"plan {opened.plan.hash[:12]}, ledger head {opened.ledger.head(last)[:12] or 'unknown'}"
    )
    return EXIT_DONE


def first_difference(opened: Opened, first: int, last: int) -> int | None:
    """The first step whose replayed samples are not those that the ledger says were trained."""
    reader = opened.reader(first - 1)
    steps = range(reader.step + 1, last + 1)
    for step in tqdm(steps, desc="replay", unit=" steps", leave=False, disable=None, file=sys.stderr):
        digest = step_digest((g, s.ids) for g, s in reader.next_step() if s is not None)
        if step >= first and digest != opened.ledger.digests[step]:
            return step
    return None


def _told(opened: Opened, step: int) -> str:
    spans: list[dict[str, Any]] = [s for row, _ in samples(opened, step, step, 1) for s in row["spans"]]
    places = list(dict.fromkeys(f"{s['file']} row group {s['row_group']} row {s['row']}" for s in spans))
    more = f"\n  and {len(places) - NAMED} more" if len(places) > NAMED else ""
    listed = "\n".join(f"  {p}" for p in places[:NAMED])
    return (
        f"step {step:,} differs: {opened.ledger.digests[step]:016x} was trained, not what the plan says\n"
        f"the plan says these documents:\n{listed}{more}\n`headrace peek --step {step} OUTPUT_DIR` shows all of it"
    )
