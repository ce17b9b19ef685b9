"""From options to everything the checks need: the only part of validation that opens things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headrace import inputs
from headrace.options import Options, training_value
from headrace.stream.batches import cores
from headrace.stream.documents import Reader
from headrace.stream.duplicates import Duplicates
from headrace.stream.feed import Choice
from headrace.stream.filters import columns_of
from headrace.stream.folder import LeftOut
from headrace.stream.heldout import HeldOut
from headrace.stream.manifest import Manifest
from headrace.stream.plan import Plan
from headrace.stream.survey import Survey, listed
from headrace.stream.tokenizer import Encoder, ModelLimits
from headrace.validate.columns import Columns
from headrace.validate.counting import TokenCounter
from headrace.validate.damage import CarefulReader, DamagedRows, SampleReader, Unreadable
from headrace.validate.forecast import Rates, Reading, rates, reading
from headrace.validate.offers import describable
from headrace.validate.overlap import Overlap
from headrace.validate.private import Sightings
from headrace.validate.profile import Profiles
from headrace.validate.sample import spread
from headrace.validate.scan import Scan, scan

Progress = Callable[[str, int, int | None, str], None]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found out from the rows, beside the counts of `Scan`."""

    counter: TokenCounter
    columns: Columns
    profiles: Profiles
    sightings: Sightings
    overlap: Overlap


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What validation saw. scanned: the manifest that `found` numbers files by; manifest: of the sound files only.

    plan: None where there is no row to plan for. left_out: files beside the data, with the reason, where a folder was
    listed.
    """

    survey: Survey
    left_out: tuple[LeftOut, ...]
    scanned: Manifest
    manifest: Manifest
    found: Scan
    measured: Measured
    encoder: Encoder
    limits: ModelLimits
    heldout: HeldOut | None
    heldout_tokens: int
    plan: Plan | None
    reading: Reading | None
    rates: Rates
    duplicates: Duplicates | None

    @property
    def files(self) -> int:
        """Files of the source, sound or not."""
        return len(self.survey.manifest.files) + len(self.survey.problems)


def look(options: Options, progress: Progress) -> Looked:
    """Read what validation needs; InputError for what the user got wrong, before any data is read."""
    encoder = inputs.open_encoder(options)
    # With only --tokenizer there is no model to limit anything.
    modelled = options.model.model_name_or_path is not None
    limits = inputs.open_limits(options) if modelled else ModelLimits("", encoder.size, None)
    block = inputs.block_size(options, limits)
    survey, beside = _survey(options, progress)
    manifest = inputs.first_rows(options, survey.manifest)
    damaged: list[Unreadable] = []
    reader, heldout = _heldout(options, manifest, damaged, progress)
    found, measured = _scan(options, manifest, encoder, heldout, progress)
    if {u.path for u in found.unreadable} - {u.path for u in damaged}:
        damaged += found.unreadable
        reader, heldout = _heldout(options, manifest, damaged, progress)
    reader, heldout, choice = _choice(options, manifest, damaged, reader, heldout, progress)
    for place in damaged:
        found.damage(place)
    plan = None
    world_size = options.validate.world_size or 1
    if choice is not None:
        plan = inputs.open_plan(
            options, reader, encoder, heldout, choice,
            block=block, global_batch=inputs.global_batch(options, world_size),
        )  # fmt: skip
    counter = measured.counter
    speed = rates(
        manifest, found, counter.tokens, counter.seconds, cores=cores(), encoder=encoder.implementation,
        workers=int(training_value(options, "dataloader_num_workers")),
    )  # fmt: skip
    return Looked(
        survey=survey, left_out=beside, scanned=manifest, manifest=reader.manifest, found=found, measured=measured,
        encoder=encoder, limits=limits, heldout=heldout, heldout_tokens=_tokens(encoder, heldout), plan=plan,
        rates=speed,
        reading=reading(plan, reader.shards, found, world_size) if plan else None,
        duplicates=choice.duplicates if choice else None,
    )  # fmt: skip


def _survey(options: Options, progress: Progress) -> tuple[Survey, tuple[LeftOut, ...]]:
    if options.dataset.manifest or options.dataset.tokenized_dataset_load_dir:
        manifest = inputs.open_manifest(options, progress)
        return (Survey(manifest, ()) if manifest.known else inputs.survey(options, manifest, progress)), ()
    sources = inputs.open_sources(options)
    beside = tuple(found for source, _, _ in sources for found in source.left_out)
    return inputs.survey(options, listed(sources), progress), beside


def _scan(
    options: Options, manifest: Manifest, encoder: Encoder, heldout: HeldOut | None, progress: Progress
) -> tuple[Scan, Measured]:
    ask, filters = options.validate, inputs.open_filters(options)
    columns = describable(manifest)
    reader = SampleReader(manifest, columns_of(filters), columns, deadline_s=options.dataset.read_deadline_s)
    measured = Measured(
        counter=TokenCounter(encoder), columns=Columns(columns), profiles=Profiles(), sightings=Sightings(),
        overlap=Overlap(heldout),
    )  # fmt: skip
    portions, complete = spread(manifest, rows=ask.validate_rows, text_bytes=ask.validate_bytes)
    found = scan(
        reader, measured.counter, portions, filters,
        (measured.columns, measured.profiles, measured.sightings, measured.overlap),
        complete=complete, text_bytes=ask.validate_bytes, seconds=ask.validate_s,
        progress=lambda done, total: progress("documents", done, total, "rows"),
    )  # fmt: skip
    return found, measured


def _heldout(
    options: Options, manifest: Manifest, damaged: list[Unreadable], progress: Progress
) -> tuple[Reader, HeldOut | None]:
    """The held-out slice of the sound files, and a reader of them; what is found damaged on the way is added."""
    while True:
        sound = _without(manifest, {u.path for u in damaged})
        reader = CarefulReader(
            sound, extra=columns_of(inputs.open_filters(options)), deadline_s=options.dataset.read_deadline_s
        )
        try:
            return reader, inputs.open_heldout(options, reader, progress)
        except DamagedRows as error:
            damaged.append(error.place)


def _choice(
    options: Options,
    manifest: Manifest,
    damaged: list[Unreadable],
    reader: Reader,
    heldout: HeldOut | None,
    progress: Progress,
) -> tuple[Reader, HeldOut | None, Choice | None]:
    """Reader and held-out slice, made anew where looking for copies finds damage, and which rows are trained.

    No choice where there is no row to choose from.
    """
    while reader.manifest.rows:
        try:
            return reader, heldout, inputs.open_choice(options, reader, heldout, progress)
        except DamagedRows as error:
            damaged.append(error.place)
            reader, heldout = _heldout(options, manifest, damaged, progress)
    return reader, heldout, None


def _without(manifest: Manifest, paths: set[str]) -> Manifest:
    return manifest.mapped(lambda i, f: None if manifest.label(i) in paths else f)


def _tokens(encoder: Encoder, heldout: HeldOut | None) -> int:
    if heldout is None:
        return 0
    sizes = np.array([len(t.encode("utf-8", "surrogatepass")) for t in heldout.texts], np.int64)
    return int(TokenCounter(encoder).lengths(heldout.texts, sizes).sum()) + len(sizes)
