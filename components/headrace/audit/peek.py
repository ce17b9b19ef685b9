"""`headrace peek`: which documents a step trains, on which rank, before or after it was trained."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from headrace.audit.open import Opened, open_flags, open_run, steps_of
from headrace.entry import log_to_stderr
from headrace.errors import EXIT_DONE, InputError
from headrace.options import Options, parse_arguments
from headrace.stream.lane import Sample

DESCRIPTION = """Show the samples of an optimizer step: files, row groups, rows and tokens.

  --step S, --step S:E     which steps, from 1; E is counted
  --json                   JSON lines on stdout, nothing else
  --world_size W           ranks (default: 1); --rank R shows one rank's samples only
  OUTPUT_DIR               a training's folder, instead of dataset and batch flags"""
EXAMPLE = """  headrace peek --step 13377 out
  headrace peek --step 1:3 --json --dataset_name examples/pydocs --model_name_or_path examples/tiny-gpt2"""
SHOWN_CHARACTERS = 100


def main(argv: Sequence[str]) -> int:
    """Print the samples; 0, or InputError."""
    args, options = parse(argv)
    log_to_stderr(options)
    if args.step is None:
        raise InputError("--step is missing", "say which: --step 13377, or --step 100:110")
    first, last = steps_of(args.step)
    world_size = options.validate.world_size or 1
    opened = open_run(Path(args.output_dir)) if args.output_dir else open_flags(options, world_size)
    if not 1 <= world_size <= opened.plan.lanes:
        raise InputError(f"--world_size is {world_size}; the plan has {opened.plan.lanes} lanes", "use fewer ranks")
    if args.rank is not None and not 0 <= args.rank < world_size:
        raise InputError(f"--rank is {args.rank}; expected 0 to {world_size - 1}", "set --world_size too")
    try:
        for row, sample in samples(opened, first, last, world_size):
            if args.rank in (None, row["rank"]):
                print(json.dumps(row) if args.json else described(opened, row, sample))
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_DONE


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, Options]:
    """Flags of this command alone, and the options that make a plan."""
    parser = argparse.ArgumentParser(prog="headrace peek", add_help=False, allow_abbrev=False)
    parser.add_argument("--step")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rank", type=int)
    own, rest = parser.parse_known_args(argv)
    # A folder stands where no flag takes it as its value: first or last.
    own.output_dir = None
    if rest and not rest[0].startswith("-"):
        own.output_dir = rest.pop(0)
    elif len(rest) % 2 and not rest[-1].startswith("-"):
        own.output_dir = rest.pop()
    groups = ("dataset", "model", "train", "training")
    options = parse_arguments(rest, prog="headrace peek", description=DESCRIPTION, example=EXAMPLE, groups=groups)
    return own, options


def samples(opened: Opened, first: int, last: int, world_size: int) -> Iterator[tuple[dict[str, Any], Sample]]:
    """Each sample of the steps as interface.md has it, and its tokens."""
    reader = opened.reader(first - 1)
    skipped = first - 1 - reader.step
    if skipped:
        print(
            f"replaying {skipped:,} steps ({skipped * opened.plan.global_batch:,} samples) from step {reader.step}",
            file=sys.stderr,
        )
    for _ in tqdm(range(skipped), unit=" steps", leave=False, disable=None):
        reader.next_step()
    label = opened.shards.manifest.label
    for step in range(first, last + 1):
        for index, (g, sample) in enumerate(reader.next_step()):
            if sample is None:
                continue
            lane = g % opened.plan.lanes
            spans = []
            for span in sample.spans:
                file, row_group, row = reader.orders[sample.source].row_at(lane, *span[:4])
                spans.append(
                    {"epoch": span.epoch, "file": label(file), "row_group": row_group, "row": row,
                     "start": span.start, "end": span.end}
                )  # fmt: skip
            digest = hashlib.sha256(np.ascontiguousarray(sample.ids, "<i4").tobytes()).hexdigest()
            row_ = {"step": step, "sample": index, "rank": lane % world_size, "lane": lane}
            yield {**row_, "spans": spans, "sha256": digest}, sample


def described(opened: Opened, row: dict[str, Any], sample: Sample) -> str:
    """A sample for people: where its tokens are from, and how each part begins."""
    lines = [
        f"step {row['step']}  sample {row['sample']}  rank {row['rank']}  lane {row['lane']}  {row['sha256'][:12]}"
    ]
    for span, start in zip(row["spans"], sample.starts, strict=True):
        ids = sample.ids[start : start + span["end"] - span["start"]]
        text = " ".join(opened.encoder.decode(ids[: 2 * SHOWN_CHARACTERS]).split())[:SHOWN_CHARACTERS]
        place = f"{span['file']} row group {span['row_group']} row {span['row']}"
        lines.append(f"  {place}, tokens {span['start']}-{span['end']}, epoch {span['epoch']}: {text}")
    return "\n".join(lines)
