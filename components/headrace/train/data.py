"""The data of a training: rank 0 looks at the source and makes the plan, every rank reads its own lanes."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headrace.artifacts.files import write_json
from headrace.errors import InputError
from headrace.inputs import (
    Progress,
    global_batch,
    open_choice,
    open_feed,
    open_heldout,
    open_listing,
    open_manifest,
    open_plan,
    open_reader,
    required_steps,
    tokenize,
    tokenized_folder,
)
from headrace.options import Options, training_value
from headrace.stream.batches import RankStream, accumulation
from headrace.stream.documents import Reader
from headrace.stream.feed import Choice
from headrace.stream.filters import first_refusal
from headrace.stream.heldout import DEFAULT_DOCUMENTS, HeldOut, is_blank
from headrace.stream.manifest import Manifest
from headrace.stream.plan import Plan
from headrace.stream.tokenized import Tokenized
from headrace.stream.tokenizer import Encoder
from headrace.train.check import Checked

log = logging.getLogger(__name__)

SAMPLE_GROUPS, SAMPLE_BYTES = 4, 256 << 10
"""Row groups, and bytes of text of each, that tokens per byte are counted in."""


@dataclass(frozen=True)
class Horizon:
    """How far a training goes. epochs None: exactly `steps`; otherwise until every lane has read that many epochs.

    `steps` is then an estimate, which the learning rate follows; frozen at the first start.
    """

    steps: int
    epochs: int | None = None

    def reached(self, state: Mapping[str, Any]) -> bool:
        """Whether a data state is at the end."""
        if self.epochs is None:
            return int(state["step"]) >= self.steps
        return bool(state["ended"]) and state["horizon"]["epochs"] == self.epochs


@dataclass(frozen=True)
class Data:
    """What rank 0 found out and every rank needs."""

    manifest: Manifest
    heldout: HeldOut | None
    choice: Choice
    eval_texts: list[str]
    plan: Plan
    horizon: Horizon
    tokenized: Path | None


def prepare(
    options: Options,
    output_dir: Path,
    checked: Checked,
    *,
    world_size: int,
    state: Mapping[str, Any] | None,
    progress: Progress,
) -> Data:
    """Look at the source and make the plan, on rank 0 only; InputError when a run that goes on has another plan.

    `state` is the data state that the run goes on from.
    """
    encoder = checked.encoder
    manifest = open_manifest(options, progress)
    reader = open_reader(options, manifest)
    heldout = open_heldout(options, reader, progress)
    choice = open_choice(options, reader, heldout, progress)
    prior = state["plan"] if state else None
    asked = global_batch(options, world_size)
    plan = open_plan(
        options, reader, encoder, heldout, choice, block=checked.block,
        global_batch=asked if prior is None or "global_batch_size" in options.given else prior["global_batch"],
    )  # fmt: skip
    if prior is not None:
        _refuse_differences(plan, prior, output_dir)
    accumulation(plan, world_size=world_size, batch=training_value(options, "per_device_train_batch_size"))
    texts = _eval_texts(options, heldout, progress) if checked.evaluate else []
    folder = tokenized_folder(options, output_dir)
    made = tokenize(options, folder, manifest, reader, encoder, progress) if folder else None
    horizon = _horizon(options, plan, reader, encoder, choice, made, state)
    if checked.train and (state is None or not (output_dir / "manifest.json").is_file()):
        write_json(output_dir / "manifest.json", manifest.to_json())
        if heldout is not None:
            heldout.write(output_dir / "heldout.parquet")
        if choice.duplicates is not None:
            choice.duplicates.write(output_dir / "duplicates.parquet")
    return Data(manifest, heldout, choice, texts, plan, horizon, folder)


def _refuse_differences(plan: Plan, prior: Mapping[str, Any], output_dir: Path) -> None:
    differences = plan.differences(prior)
    if differences:
        raise InputError(
            f"the run in {output_dir} was started with another plan; different now: {'; '.join(differences)}",
            "give the flags it was started with, or start another run in a new --output_dir",
        )


def _eval_texts(options: Options, heldout: HeldOut | None, progress: Progress) -> list[str]:
    """Documents to evaluate on, never more than the limit: the held-out slice, or the test split without one."""
    limit = options.dataset.max_eval_samples or DEFAULT_DOCUMENTS
    if heldout is not None:
        texts = heldout.texts[:limit]
    else:
        texts = _test_split(options, limit)
        log.info("--heldout_fraction is 0: evaluating on %d rows of the test split", len(texts))
    if not texts:
        raise InputError(
            "there is no document to evaluate on", "set --heldout_fraction above 0, or leave out --do_eval"
        )
    return texts


def _test_split(options: Options, limit: int) -> list[str]:
    dataset = options.dataset
    split = replace(
        dataset, dataset_train_split=dataset.dataset_test_split, dataset_filter=None, max_train_samples=limit
    )
    test = replace(options, dataset=replace(split, manifest=None, tokenized_dataset_load_dir=None))
    try:
        open_listing(test)
    except InputError as error:
        raise InputError(
            f"--heldout_fraction is 0 and there is no test split: {error.message}",
            "set --heldout_fraction above 0, or leave out --do_eval",
        ) from error
    texts = (d.text for d in open_reader(test, open_manifest(test)).rows())
    return [t for t in texts if t is not None and not is_blank(t)]


def _horizon(
    options: Options,
    plan: Plan,
    reader: Reader,
    encoder: Encoder,
    choice: Choice,
    made: Tokenized | None,
    state: Mapping[str, Any] | None,
) -> Horizon:
    steps: int = training_value(options, "max_steps")
    if steps > 0:
        return Horizon(steps)
    if plan.mixture:
        required_steps(options)
    epochs: float = training_value(options, "num_train_epochs")
    whole = int(epochs) if epochs == int(epochs) else None
    if state and whole is not None and state["horizon"]["epochs"] == whole:
        return Horizon(int(state["horizon"]["steps"]), whole)
    blocks = _blocks(plan, reader, encoder, choice, made)
    found = Horizon(max(1, math.ceil(epochs * blocks / plan.global_batch)), whole)
    log.info("about %d steps for %g epochs of about %d samples", found.steps, epochs, blocks)
    return found


def _blocks(plan: Plan, reader: Reader, encoder: Encoder, choice: Choice, made: Tokenized | None) -> float:
    """Samples an epoch, about: counted in a few row groups, unless all of it was tokenised."""
    size = reader.shards.size()
    if made is not None and plan.grouped and reader.manifest.limit is None:
        return made.tokens / plan.block
    files = reader.shards.lowest(SAMPLE_GROUPS)
    found = [
        (f, g) for f, groups in zip(files, reader.shards.row_groups(files), strict=True) for g in range(len(groups))
    ]
    chosen = [found[i * len(found) // SAMPLE_GROUPS] for i in range(SAMPLE_GROUPS)] if found else []
    blocks = seen = 0.0
    for place in dict.fromkeys(chosen):
        texts, taken = [], 0
        for table in reader.batches(*place):
            refused = first_refusal(choice.filters, table).tolist()
            for text, why in zip(table.column(0).to_pylist(), refused, strict=True):
                if taken >= SAMPLE_BYTES:
                    break
                taken += 4 + len((text or "").encode())  # Parquet counts four bytes for a length
                texts.append("" if text is None or is_blank(text) or why else text)
            if taken >= SAMPLE_BYTES:
                break
        lengths = np.diff(encoder.encode(texts)[1])
        tokens = lengths[lengths > 0] + 1
        blocks += tokens.sum() / plan.block if plan.grouped else np.ceil(tokens / plan.block).sum()
        seen += taken
    return float(blocks) / max(1.0, seen) * size.text_bytes


def open_stream(
    options: Options,
    data: Data,
    encoder: Encoder,
    *,
    world_size: int,
    rank: int,
    state: Mapping[str, Any] | None,
) -> RankStream:
    """The micro-batches of one rank, from a data state on."""
    made = Tokenized.load(data.tokenized) if data.tokenized else None
    reader = open_reader(options, data.manifest)
    return RankStream(
        data.plan, reader.shards, open_feed(reader, encoder, data.choice, made),
        world_size=world_size, rank=rank, batch=training_value(options, "per_device_train_batch_size"),
        epochs=data.horizon.epochs, state=state, threads=max(1, training_value(options, "dataloader_num_workers")),
    )  # fmt: skip
