"""Which documents a model is scored on, and whether it may have been trained on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace import inputs
from headrace.errors import InputError
from headrace.evaluate.sources import sources
from headrace.options import Options
from headrace.stream.addresses import without_secrets
from headrace.stream.heldout import DEFAULT_DOCUMENTS, SCHEMA, HeldOut, content_hash, is_blank
from headrace.stream.manifest import Manifest

FILE = "heldout.parquet"


@dataclass(frozen=True)
class Chosen:
    """Documents to score. made: now, by the rule of --heldout_fraction; manifest: None for a file.

    origin: in words that everyone may read. sources: of each document the source of a mixture, or the dataset.
    """

    slice: HeldOut
    made: bool
    origin: str
    manifest: Manifest | None = None
    other_split: bool = False
    sources: tuple[str, ...] = ()


def choose(options: Options, record: Mapping[str, Any], progress: inputs.Progress | None = None) -> Chosen:
    """The slice of --heldout, or one made by the same rule now; InputError naming --heldout when there is none.

    record: the model's training record, which knows the sources that a file does not.
    """
    chosen = _choose(options, progress)
    return replace(chosen, sources=_sources(chosen, record))


def _sources(chosen: Chosen, record: Mapping[str, Any]) -> tuple[str, ...]:
    files: list[str] = chosen.slice.table.column("file").to_pylist()
    if chosen.manifest is not None:
        return sources(files, [vars(part) for part in chosen.manifest.parts], chosen.manifest.sources)
    parts = (record.get("dataset") or {}).get("sources") or ()
    return sources(files, parts, (record.get("heldout") or {}).get("sources") or {})


def _choose(options: Options, progress: inputs.Progress | None) -> Chosen:
    dataset = options.dataset
    if dataset.heldout:
        limit = dataset.max_eval_samples if "max_eval_samples" in options.given else None
        # Its rows are by ascending content hash: the first ones are what the rule makes with that limit.
        found = HeldOut(HeldOut.read(Path(dataset.heldout)).table.slice(0, limit))
        return _with_documents(Chosen(found, False, f"read from {dataset.heldout}"), "the file is empty")
    named = dataset.dataset_name or dataset.dataset_mixture or dataset.manifest or dataset.tokenized_dataset_load_dir
    if not named:
        raise InputError(
            "there are no held-out documents: neither --heldout nor a dataset is given",
            "give --heldout FILE (validate's heldout.parquet), or the dataset flags to make the same slice again",
        )
    if dataset.heldout_fraction == 0:
        return _with_documents(_test_split(options, progress), f"the split {dataset.dataset_test_split!r} is blank")
    manifest = inputs.open_manifest(options, progress)
    made = inputs.open_heldout(options, inputs.open_reader(options, manifest), progress)
    assert made is not None  # the fraction is above 0
    origin = (
        f"made by the rule of --heldout_fraction {dataset.heldout_fraction:g} from {without_secrets(manifest.name)}"
    )
    return _with_documents(Chosen(made, True, origin, manifest), f"{manifest.name} has no usable rows")


def _with_documents(chosen: Chosen, otherwise: str) -> Chosen:
    if not chosen.slice.table.num_rows:
        raise InputError(
            f"there are no held-out documents: {otherwise}", "give --heldout FILE with documents, or another dataset"
        )
    return chosen


def _test_split(options: Options, progress: inputs.Progress | None) -> Chosen:
    """The first documents of --dataset_test_split; InputError when the dataset has no such split of its own."""
    dataset = options.dataset
    wanted = dataset.dataset_test_split
    test = replace(
        options,
        dataset=replace(
            dataset, dataset_train_split=wanted, manifest=None, tokenized_dataset_load_dir=None, max_train_samples=None
        ),
    )
    remedy = "give --heldout FILE, a --heldout_fraction above 0, or another --dataset_test_split"
    try:
        files = {f.uri for f in inputs.open_listing(test).files}
    except InputError as error:
        raise InputError(f"there are no held-out documents: {error.message}", remedy) from error
    if files & _train_files(options):
        raise InputError(
            f"there are no held-out documents: {dataset.dataset_name} names files, which have no split {wanted!r}",
            remedy,
        )
    manifest = inputs.open_manifest(test, progress)
    rows = islice(_documents(test, manifest), dataset.max_eval_samples or DEFAULT_DOCUMENTS)
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
    origin = f"the first documents of the split {wanted!r} of {without_secrets(manifest.name)}"
    return Chosen(HeldOut(table), False, origin, manifest, other_split=True)


def _train_files(options: Options) -> set[str]:
    try:
        return {f.uri for f in inputs.open_listing(options).files}
    except InputError:  # a dataset to evaluate on may have no train split
        return set()


def _documents(options: Options, manifest: Manifest) -> Iterator[dict[str, Any]]:
    for document in inputs.open_reader(options, manifest).rows():
        if document.text is not None and not is_blank(document.text):
            yield {
                "text": document.text,
                "file": manifest.label(document.file),
                "row_group": document.row_group,
                "row": document.row,
                "hash": content_hash(document.text),
            }


def caution(chosen: Chosen, record: dict[str, Any], folder: Path) -> str:
    """Why the documents may have been trained on, as far as the training record tells; empty when nothing says so.

    `folder` is the model's: training leaves its own slice in it.
    """
    if not record or chosen.other_split:
        return ""
    held_out = record.get("heldout")
    if not held_out:
        return "training held nothing out: the documents scored may have been trained on"
    if chosen.slice.digest == held_out.get("digest"):
        return ""
    if (folder / FILE).is_file():
        kept = HeldOut.read(folder / FILE)
        if kept.digest == held_out.get("digest") and chosen.slice.hashes <= kept.hashes:
            return ""
    return "training held out another slice: some of the documents scored may have been trained on"
