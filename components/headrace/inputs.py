"""From what the user asked for to what a step works on: manifest, reader, encoder, held-out slice, plan."""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace.artifacts.checkpoint import REFERENCE, CheckpointRef
from headrace.artifacts.files import read_json
from headrace.artifacts.storage import open_store
from headrace.errors import InputError
from headrace.options import DatasetOptions, Options, training_value
from headrace.stream import heldout as heldout_slice
from headrace.stream import manifest as manifests
from headrace.stream import tokenized as tokenized_data
from headrace.stream.documents import Reader
from headrace.stream.feed import TextFeed
from headrace.stream.heldout import DEFAULT_DOCUMENTS, HeldOut
from headrace.stream.manifest import Manifest, Survey, places
from headrace.stream.order import default_lanes
from headrace.stream.plan import Plan
from headrace.stream.source import Source, resolve
from headrace.stream.tokenized import TokenFeed, Tokenized
from headrace.stream.tokenizer import FILES, Encoder, ModelLimits, load_encoder, load_limits
from headrace.stream.windows import Feed

log = logging.getLogger(__name__)

PROBED_CHARACTERS = 1 << 18
LARGEST_BLOCK = 8_192
"""Tokens a block at most when the model alone decides; longer ones are asked for by --dataset_block_size."""

Progress = Callable[[str, int, int | None, str], None]
"""Called with (phase, done, total, unit)."""


def required(options: Options, *names: str) -> None:
    """InputError for the first of these flags that was not given."""
    values = {**vars(options.dataset), **vars(options.model), **vars(options.evaluate), **options.training}
    for name in names:
        if values.get(name) in (None, ""):
            raise InputError(
                f"--{name} is missing", "give it as a flag or in the --config file; `--help` has an example"
            )


def open_source(options: Options) -> Source:
    """The files of the dataset that the options name."""
    dataset = options.dataset
    required(options, "dataset_name")
    return resolve(
        str(dataset.dataset_name),
        config=dataset.dataset_config_name,
        revision=dataset.dataset_revision,
        split=dataset.dataset_train_split,
    )


def survey(options: Options, source: Source, progress: Progress | None = None) -> Survey:
    """What the footers of a source say, problems included."""
    return manifests.survey(source, options.dataset.dataset_text_field, **_reading(options.dataset, progress))


def open_manifest(options: Options, progress: Progress | None = None) -> Manifest:
    """The manifest of --tokenized_dataset_load_dir or --manifest, or one made now; cut to --max_train_samples rows."""
    dataset = options.dataset
    if dataset.tokenized_dataset_load_dir:
        manifest = Tokenized.load(Path(dataset.tokenized_dataset_load_dir)).source
    elif dataset.manifest:
        manifest = Manifest.from_json(read_json(Path(dataset.manifest)))
        if "dataset_text_field" in options.given and manifest.text_column != dataset.dataset_text_field:
            raise InputError(
                f"the manifest is of the column {manifest.text_column!r}; --dataset_text_field is "
                f"{dataset.dataset_text_field!r}",
                "make the manifest anew, or leave out the flag",
            )
    else:
        manifest = manifests.build(open_source(options), dataset.dataset_text_field, **_reading(dataset, progress))
    return first_rows(options, manifest)


def first_rows(options: Options, manifest: Manifest) -> Manifest:
    """The manifest cut to --max_train_samples, the first rows of the source."""
    limit = options.dataset.max_train_samples
    return manifest if limit is None or limit >= manifest.rows else manifest.first_rows(limit)


def _reading(dataset: DatasetOptions, progress: Progress | None) -> dict[str, Any]:
    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress("footers", done, total, "files")

    return {
        "threads": max(8, dataset.dataset_num_proc),
        "deadline_s": dataset.read_deadline_s,
        "progress": tell,
    }


def open_reader(options: Options, manifest: Manifest) -> Reader:
    """A reader of the manifest's rows."""
    return Reader(manifest, deadline_s=options.dataset.read_deadline_s)


def open_limits(options: Options) -> ModelLimits:
    """Vocabulary and positions of the model, from its configuration alone."""
    required(options, "model_name_or_path")
    location = str(options.model.model_name_or_path)
    return load_limits(small_files(location), revision=options.model.model_revision)


def open_encoder(options: Options) -> Encoder:
    """The tokenizer of the run; InputError when it gives ids that the model does not have."""
    location = options.model.tokenizer or options.model.model_name_or_path
    if location is None:
        required(options, "model_name_or_path")
    revision = None if options.model.tokenizer else options.model.model_revision
    encoder = load_encoder(small_files(str(location)), revision=revision)
    if options.model.model_name_or_path is not None:
        check_fit(encoder, open_limits(options), str(location), options.model.model_name_or_path)
    return encoder


def check_fit(encoder: Encoder, limits: ModelLimits, tokenizer: str, model: str) -> None:
    """InputError when a tokenizer's ids go beyond a model's vocabulary."""
    if encoder.size > limits.vocab_size:
        raise InputError(
            f"the tokenizer {tokenizer} has ids up to {encoder.size - 1}; the model {model} has a vocabulary of "
            f"{limits.vocab_size}",
            "name the tokenizer that belongs to the model with --tokenizer",
        )


def small_files(location: str) -> str:
    """Where a model's small files lie: the location itself, what its checkpoint.json points to, or a local copy."""
    if "://" not in location:
        folder = Path(location).expanduser()
        if (folder / REFERENCE).is_file() and not (folder / "config.json").is_file():
            uri = CheckpointRef.read(folder).uri
            absolute = "://" in uri or Path(uri).is_absolute()
            return small_files(uri if absolute else str(folder / uri))
        return location
    store = open_store(location)
    present = [name for name in FILES if store.exists(name)]
    if not present:
        raise InputError(f"{location} holds no model: found none of {', '.join(FILES)}", "check --model_name_or_path")
    copy = tempfile.mkdtemp(prefix="headrace-model-")
    store.download_folder(Path(copy), present)
    return copy


def block_size(options: Options, limits: ModelLimits) -> int:
    """Tokens a block: as asked, or the model's limit, at most 8192; InputError above the model's limit."""
    dataset = options.dataset
    asked = dataset.dataset_block_size
    flag = "--dataset_block_size"
    if not dataset.dataset_group_text and dataset.dataset_max_seq_length is not None:
        asked, flag = dataset.dataset_max_seq_length, "--dataset_max_seq_length"
    if asked is None:
        if limits.max_positions is None or limits.max_positions > LARGEST_BLOCK:
            log.warning(
                "blocks have %d tokens, though the model takes more: --dataset_block_size sets it", LARGEST_BLOCK
            )
        return min(limits.max_positions or LARGEST_BLOCK, LARGEST_BLOCK)
    if limits.max_positions is not None and asked > limits.max_positions:
        raise InputError(
            f"{flag} is {asked}; the model takes at most {limits.max_positions} tokens",
            f"use {limits.max_positions} or less",
        )
    if asked < 2:
        raise InputError(f"{flag} is {asked}; a block needs at least 2 tokens")
    return asked


def open_heldout(
    options: Options, manifest: Manifest, reader: Reader, progress: Progress | None = None
) -> HeldOut | None:
    """The slice in --heldout, or made by the same rule now; None with --heldout_fraction 0."""
    dataset = options.dataset
    if dataset.heldout:
        return HeldOut.read(Path(dataset.heldout))
    if dataset.heldout_fraction == 0:
        return None

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress("held-out slice", done, total, "row groups")

    return heldout_slice.make(
        manifest, reader,
        fraction=dataset.heldout_fraction, limit=dataset.max_eval_samples or DEFAULT_DOCUMENTS, progress=tell,
    )  # fmt: skip


def tokenized_folder(options: Options, output_dir: Path) -> Path | None:
    """Where the tokenised dataset of a run lies or goes; None when it is encoded on the way."""
    dataset = options.dataset
    named = dataset.tokenized_dataset_load_dir or dataset.tokenized_dataset_save_dir
    if named:
        return Path(named)
    return None if dataset.dataset_streaming else output_dir / "tokenized"


def tokenize(
    options: Options,
    folder: Path,
    manifest: Manifest,
    reader: Reader,
    encoder: Encoder,
    progress: Progress | None = None,
) -> Tokenized:
    """The tokenised dataset in a folder, made now unless it is there or was to be loaded."""
    if options.dataset.tokenized_dataset_load_dir:
        found = Tokenized.load(folder)
        found.check(manifest, encoder)
        return found

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress("tokenise", done, total, "rows")

    threads = options.dataset.dataset_num_proc
    return tokenized_data.save(folder, manifest, reader, encoder, threads=threads, progress=tell)


def open_feed(reader: Reader, encoder: Encoder, heldout: HeldOut | None, tokenized: Tokenized | None = None) -> Feed:
    """What the lanes read: the documents that are trained, encoded on the way or earlier."""
    hashes = heldout.hashes if heldout else frozenset()
    if tokenized is not None:
        return TokenFeed(tokenized, hashes)
    encoder.accelerate(_probes(reader))
    log.info("encoding with %s", encoder.implementation)
    return TextFeed(reader, encoder, hashes)


def _probes(reader: Reader) -> list[str]:
    """Some documents of the first row group that has any, to prove a fast tokenizer on."""
    groups = (g for g in places(reader.manifest) if reader.manifest.files[g[0]].row_groups[g[1]].rows)
    texts = [t for t in reader.texts(*next(groups)) if t]
    ends = itertools.accumulate(len(t) for t in texts)
    return [t for t, end in zip(texts, ends, strict=True) if end <= PROBED_CHARACTERS] or texts[:1]


def global_batch(options: Options, world_size: int) -> int:
    """Samples a step: as asked, or what the batch flags make on so many ranks."""
    asked = options.train.global_batch_size
    batch, accumulation = (
        int(training_value(options, n)) for n in ("per_device_train_batch_size", "gradient_accumulation_steps")
    )
    return batch * accumulation * world_size if asked is None else asked


def open_plan(
    options: Options,
    manifest: Manifest,
    encoder: Encoder,
    heldout: HeldOut | None,
    *,
    block: int,
    global_batch: int,
) -> Plan:
    """The plan of a run; --lanes and --seed are read from the options."""
    largest = max(g.text_bytes for f in manifest.files for g in f.row_groups)
    lanes = options.dataset.lanes or default_lanes(
        global_batch=global_batch,
        block=block,
        rows=manifest.rows,
        text_bytes=manifest.text_bytes,
        largest_group=largest,
    )
    return Plan(
        manifest_hash=manifest.hash,
        text_column=manifest.text_column,
        tokenizer_hash=encoder.hash,
        eos_id=encoder.eos_id,
        heldout=heldout.digest if heldout else "",
        seed=int(training_value(options, "seed")),
        block=block,
        grouped=options.dataset.dataset_group_text,
        lanes=lanes,
        global_batch=global_batch,
    )
