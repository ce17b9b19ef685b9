"""From what the user asked for to what a step works on: manifest, reader, encoder, held-out slice, plan."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headrace.artifacts.checkpoint import REFERENCE, CheckpointRef
from headrace.artifacts.files import read_json
from headrace.artifacts.storage import open_store
from headrace.errors import InputError
from headrace.options import DatasetOptions, Options, training_value
from headrace.options.bounds import check_number
from headrace.stream import duplicates, shards
from headrace.stream import heldout as heldout_slice
from headrace.stream import survey as surveys
from headrace.stream import tokenized as tokenized_data
from headrace.stream.documents import Reader
from headrace.stream.duplicates import Duplicates
from headrace.stream.feed import Choice, TextFeed
from headrace.stream.filters import Filter, columns_of
from headrace.stream.footers import default_folder
from headrace.stream.heldout import DEFAULT_DOCUMENTS, HeldOut
from headrace.stream.manifest import Manifest
from headrace.stream.order import COUNTED_FILES, SEGMENT_FILES, default_lanes
from headrace.stream.plan import Plan
from headrace.stream.source import Source, nearest, resolve
from headrace.stream.survey import Survey, listed
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


def open_listing(options: Options) -> Manifest:
    """The files of the dataset or mixture that the options name, before any of them is opened."""
    return listed(open_sources(options))


def open_sources(options: Options) -> list[tuple[Source, str, int]]:
    """The dataset or the sources of the mixture that the options name, each with its text column and weight."""
    dataset = options.dataset
    if dataset.dataset_mixture is not None:
        if dataset.dataset_name:
            raise InputError("--dataset_name and --dataset_mixture are both given", "leave out one of them")
        return [_source_of(dataset, entry) for entry in _entries(dataset.dataset_mixture)]
    required(options, "dataset_name")
    source = resolve(
        str(dataset.dataset_name),
        config=dataset.dataset_config_name,
        revision=dataset.dataset_revision,
        split=dataset.dataset_train_split,
    )
    return [(source, dataset.dataset_text_field, 1)]


_ENTRY = {"name": str, "weight": int, "config": str, "revision": str, "split": str, "text_field": str}


def _entries(mixture: Any) -> list[dict[str, Any]]:
    """The sources of --dataset_mixture; InputError when it is no list of them."""
    remedy = "each source has a name and a weight (a whole number from 1): see examples/mixture.yaml"
    if not isinstance(mixture, list) or len(mixture) < 2 or not all(isinstance(e, dict) for e in mixture):
        raise InputError("--dataset_mixture is no list of two or more sources", remedy)
    entries: list[dict[str, Any]] = [dict(e) for e in mixture]
    for entry in entries:
        if isinstance(entry.get("weight"), float) and entry["weight"].is_integer():
            entry["weight"] = int(entry["weight"])  # pipelines know one kind of number
        for key, value in entry.items():
            if key not in _ENTRY:
                raise InputError(f"--dataset_mixture: a source has the key {key!r}{nearest(str(key), _ENTRY)}", remedy)
            if type(value) is not _ENTRY[key]:
                raise InputError(f"--dataset_mixture: {key} is {value!r}, expected {_ENTRY[key].__name__}", remedy)
        if "name" not in entry or not 1 <= entry.get("weight", 0) < 1 << 31:
            raise InputError(f"--dataset_mixture: the source {entry} lacks a name or a weight", remedy)
    return entries


def required_steps(options: Options) -> None:
    """InputError without --max_steps, which a mixture needs."""
    if training_value(options, "max_steps") <= 0:
        raise InputError(
            "--max_steps is not set; the sources of a mixture have no epoch in common",
            "say how many steps to train with --max_steps",
        )


def _source_of(dataset: DatasetOptions, entry: Mapping[str, Any]) -> tuple[Source, str, int]:
    source = resolve(
        entry["name"], config=entry.get("config"), revision=entry.get("revision"),
        split=entry.get("split", dataset.dataset_train_split),
    )  # fmt: skip
    return source, entry.get("text_field", dataset.dataset_text_field), entry["weight"]


def open_filters(options: Options) -> tuple[Filter, ...]:
    """The filters of --dataset_filter."""
    return tuple(Filter.parse(f) for f in options.dataset.dataset_filter or ())


def survey(options: Options, listing: Manifest, progress: Progress | None = None) -> Survey:
    """What the footers of a listing say, problems included."""
    return surveys.survey(listing, **_reading(options, progress))


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
        if dataset.dataset_mixture is not None:
            asked = [(e["name"], e["weight"]) for e in _entries(dataset.dataset_mixture)]
            if asked != [(p.name, p.weight) for p in manifest.parts]:
                raise InputError(
                    f"the manifest {dataset.manifest} is of another mixture than --dataset_mixture",
                    "make the manifest anew, or leave out --manifest",
                )
    else:
        manifest = surveys.build(open_listing(options), **_reading(options, progress))
    return first_rows(options, manifest)


def first_rows(options: Options, manifest: Manifest) -> Manifest:
    """The manifest cut to --max_train_samples, the first rows of the source."""
    limit = options.dataset.max_train_samples
    if limit is None or manifest.limit == limit:
        return manifest
    if len(manifest.parts) > 1:
        raise InputError(
            "--max_train_samples is the first rows of one source; a mixture has several",
            "leave it out, and set --max_steps",
        )
    return surveys.first_rows(manifest, limit, options.dataset.read_deadline_s)


def _reading(options: Options, progress: Progress | None) -> dict[str, Any]:
    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress("footers", done, total, "files")

    return {
        "extra": columns_of(open_filters(options)),
        "threads": max(shards.THREADS, options.dataset.dataset_num_proc),
        "deadline_s": options.dataset.read_deadline_s,
        "progress": tell,
        "kept": _kept_footers(options.validate.manifest_cache),
    }


def _kept_footers(named: str | None) -> Path | None:
    if named is None:
        return default_folder()
    return None if named == "none" else Path(named).expanduser()


def open_reader(options: Options, manifest: Manifest) -> Reader:
    """A reader of the manifest's rows, with the columns that filters look at."""
    return Reader(manifest, extra=columns_of(open_filters(options)), deadline_s=options.dataset.read_deadline_s)


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


def open_heldout(options: Options, reader: Reader, progress: Progress | None = None) -> HeldOut | None:
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
        reader, fraction=dataset.heldout_fraction, limit=dataset.max_eval_samples or DEFAULT_DOCUMENTS, progress=tell
    )


def open_choice(options: Options, reader: Reader, heldout: HeldOut | None, progress: Progress | None = None) -> Choice:
    """Which rows are trained; with --dedup dataset the bitmap of --duplicates, or one made now by reading all rows."""
    dataset = options.dataset
    filters = open_filters(options)
    scope: Any = dataset.dedup.replace("none", "")
    if dataset.duplicates and scope != "dataset":
        raise InputError(f"--duplicates is given and --dedup is {dataset.dedup}", "set --dedup dataset")
    found = None
    if dataset.duplicates:
        found = Duplicates.read(Path(dataset.duplicates), reader.manifest.hash)
    elif scope == "dataset":

        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress("copies", done, total, "row groups")

        log.info("reading all documents to find copies: `headrace validate --dedup dataset` does it beforehand")
        found = duplicates.find(reader, filters, progress=tell)
    hashes = heldout.hashes if heldout else frozenset()
    return Choice(heldout=hashes, filters=filters, dedup=scope, duplicates=found)


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
        found.check(manifest, encoder, open_filters(options))
        return found

    if not manifest.known:  # all of it is read now anyway
        manifest = surveys.sound(surveys.survey(manifest, **_reading(options, progress)))

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress("tokenise", done, total, "rows")

    threads = options.dataset.dataset_num_proc
    return tokenized_data.save(folder, manifest, reader, encoder, open_filters(options), threads=threads, progress=tell)


def open_feed(reader: Reader, encoder: Encoder, choice: Choice, tokenized: Tokenized | None = None) -> Feed:
    """What the lanes read: the documents that are trained, encoded on the way or earlier."""
    if tokenized is not None:
        return TokenFeed(tokenized, choice)
    encoder.accelerate(_probes(reader))
    log.info("encoding with %s", encoder.implementation)
    return TextFeed(reader, encoder, choice)


def _probes(reader: Reader) -> list[str]:
    """Some documents from the beginning, to prove a fast tokenizer on."""
    places = ((f, g) for f in range(len(reader.manifest.files)) for g in range(len(reader.shards.row_groups([f])[0])))
    texts = (d.text for place in places for d in reader.documents(*place) if d.text)
    found, size = [], 0
    for text in texts:
        found.append(text)
        size += len(text)
        if size >= PROBED_CHARACTERS:
            break
    return found


def global_batch(options: Options, world_size: int) -> int:
    """Samples a step: as asked, or what the batch flags make on so many ranks; InputError for too many."""
    asked = options.train.global_batch_size
    batch, accumulation = (
        int(training_value(options, n)) for n in ("per_device_train_batch_size", "gradient_accumulation_steps")
    )
    if asked is not None:
        return asked
    made_of = f"the global batch (per-device batch {batch} x accumulation {accumulation} x {world_size} ranks)"
    check_number("global_batch_size", batch * accumulation * world_size, made_of)
    return batch * accumulation * world_size


def open_plan(
    options: Options,
    reader: Reader,
    encoder: Encoder,
    heldout: HeldOut | None,
    choice: Choice,
    *,
    block: int,
    global_batch: int,
) -> Plan:
    """The plan of a run; --lanes and --seed are read from the options."""
    manifest, size = reader.manifest, reader.shards.size()
    lanes = options.dataset.lanes or default_lanes(
        global_batch=global_batch, block=block, rows=size.rows, text_bytes=size.text_bytes, largest_group=size.largest
    )
    copies = f"{choice.dedup} {choice.duplicates.digest}" if choice.duplicates else choice.dedup
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
        filters=("blank", *map(str, choice.filters)),
        dedup=copies,
        mixture=tuple(p.weight for p in manifest.parts) if len(manifest.parts) > 1 else (),
        segment_files=SEGMENT_FILES if all(p.format == "parquet" for p in manifest.parts) else COUNTED_FILES,
    )
