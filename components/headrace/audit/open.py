"""A plan with its data: that of a run that was started, or the one that flags would start."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace import inputs
from headrace.artifacts.checkpoint import committed
from headrace.artifacts.files import read_json
from headrace.errors import ChangedSource, InputError
from headrace.options import Options
from headrace.stream.documents import Reader
from headrace.stream.duplicates import Duplicates
from headrace.stream.feed import Choice
from headrace.stream.filters import Filter, columns_of
from headrace.stream.heldout import HeldOut
from headrace.stream.ledger import FOLDER, Ledger
from headrace.stream.manifest import Manifest
from headrace.stream.plan import Plan
from headrace.stream.shards import Shards
from headrace.stream.steps import StepReader, Threads
from headrace.stream.tokenizer import Encoder, load_encoder
from headrace.stream.windows import Feed

THREADS = 2


@dataclass(frozen=True)
class Opened:
    """Everything a step's samples follow from, and what the run wrote of them."""

    plan: Plan
    shards: Shards
    feed: Feed
    encoder: Encoder
    epochs: int | None
    ledger: Ledger

    def reader(self, before: int) -> StepReader:
        """A reader whose next step is at or before `before` + 1: from the nearest place the ledger knows."""
        return StepReader(
            self.plan, self.shards, self.feed, epochs=self.epochs, state=self.ledger.nearest(before),
            threads=Threads(
                readers=ThreadPoolExecutor(THREADS, thread_name_prefix="headrace-read"),
                encoders=ThreadPoolExecutor(THREADS, thread_name_prefix="headrace-encode"),
            ),
        )  # fmt: skip


def open_run(folder: Path) -> Opened:
    """The run in a training's output folder; InputError when it is none, ChangedSource when files changed."""
    record = _record(folder)
    plan = Plan.from_json(record["plan"])
    manifest = Manifest.from_json(read_json(folder / "manifest.json"))
    encoder = load_encoder(str(_tokenizer_folder(folder)))
    heldout = HeldOut.read(folder / "heldout.parquet") if plan.heldout else None
    found = {
        "manifest_hash": manifest.hash,
        "tokenizer_hash": encoder.hash,
        "heldout": heldout.digest if heldout else "",
    }
    for name, value in found.items():
        if value != getattr(plan, name):
            raise ChangedSource(
                f"{folder}: the {name} is {value[:12]}; the run's plan says {getattr(plan, name)[:12]}",
                "the files beside the model are not those of its run: restore them",
            )
    filters = tuple(Filter.parse(f) for f in plan.filters[1:])
    scope: Any = plan.dedup.partition(" ")[0]
    copies = Duplicates.read(folder / "duplicates.parquet", manifest.hash) if scope == "dataset" else None
    choice = Choice(heldout=heldout.hashes if heldout else frozenset(), filters=filters, dedup=scope, duplicates=copies)
    reader = Reader(manifest, extra=columns_of(filters))
    epochs = (record.get("horizon") or {}).get("epochs")
    feed = inputs.open_feed(reader, encoder, choice)
    return Opened(plan, reader.shards, feed, encoder, epochs, Ledger.read(folder / FOLDER))


def _record(folder: Path) -> Mapping[str, Any]:
    """The newest word on the run's plan: its last committed checkpoint's, or the final record's."""
    for checkpoint, _ in committed(folder).found:
        state: Mapping[str, Any] = read_json(checkpoint / "data_state.json")
        return state
    if (folder / "headrace.json").is_file():
        record: Mapping[str, Any] = read_json(folder / "headrace.json")
        return record
    raise InputError(
        f"{folder} is no output of `headrace train`: it has neither a committed checkpoint nor headrace.json",
        "name the --output_dir of a training",
    )


def _tokenizer_folder(folder: Path) -> Path:
    if (folder / "tokenizer_config.json").is_file():
        return folder
    return next(checkpoint for checkpoint, _ in committed(folder).found)


def open_flags(options: Options, world_size: int) -> Opened:
    """The run that these flags would start on so many ranks."""
    manifest = inputs.open_manifest(options)
    reader, encoder = inputs.open_reader(options, manifest), inputs.open_encoder(options)
    heldout = inputs.open_heldout(options, reader)
    choice = inputs.open_choice(options, reader, heldout)
    plan = inputs.open_plan(
        options, reader, encoder, heldout, choice,
        block=inputs.block_size(options, inputs.open_limits(options)),
        global_batch=inputs.global_batch(options, world_size),
    )  # fmt: skip
    return Opened(plan, reader.shards, inputs.open_feed(reader, encoder, choice), encoder, None, Ledger({}, {}))


def steps_of(text: str) -> tuple[int, int]:
    """First and last step of `S` or `S:E`, both counted; InputError when it is neither."""
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    first = int(match[1]) if match else 0
    last = int(match[2]) if match and match[2] else first
    if not 1 <= first <= last:
        raise InputError(f"--step is {text!r}, expected S or S:E, with steps from 1", "for example --step 13377")
    return first, last
