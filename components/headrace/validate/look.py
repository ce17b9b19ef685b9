"""From options to everything the checks need: the only part of validation that opens things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headrace import inputs
from headrace.options import Options
from headrace.stream.documents import Reader
from headrace.stream.duplicates import Duplicates
from headrace.stream.filters import columns_of
from headrace.stream.heldout import HeldOut
from headrace.stream.manifest import Manifest
from headrace.stream.plan import Plan
from headrace.stream.survey import Survey
from headrace.stream.tokenizer import Encoder, ModelLimits
from headrace.validate.scan import CarefulReader, DamagedRows, Scan, lengths, scan, spread

Progress = Callable[[str, int, int | None, str], None]


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What validation saw. manifest: of the sound files only; plan: None where there is no row to plan for."""

    survey: Survey
    manifest: Manifest
    found: Scan
    encoder: Encoder
    limits: ModelLimits
    heldout: HeldOut | None
    heldout_tokens: int
    plan: Plan | None
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
    survey = _survey(options, progress)
    manifest = inputs.first_rows(options, survey.manifest)
    found = _scan(options, manifest, encoder, progress)
    reader, heldout = _heldout(options, manifest, found, progress)
    plan = choice = None
    if reader.manifest.rows:
        choice = inputs.open_choice(options, reader, heldout, progress)
        plan = inputs.open_plan(
            options, reader, encoder, heldout, choice,
            block=block, global_batch=inputs.global_batch(options, options.validate.world_size or 1),
        )  # fmt: skip
    return Looked(
        survey=survey, manifest=reader.manifest, found=found, encoder=encoder, limits=limits,
        heldout=heldout, heldout_tokens=_tokens(encoder, heldout), plan=plan,
        duplicates=choice.duplicates if choice else None,
    )  # fmt: skip


def _survey(options: Options, progress: Progress) -> Survey:
    if options.dataset.manifest or options.dataset.tokenized_dataset_load_dir:
        manifest = inputs.open_manifest(options, progress)
        return Survey(manifest, ()) if manifest.known else inputs.survey(options, manifest, progress)
    return inputs.survey(options, inputs.open_listing(options), progress)


def _scan(options: Options, manifest: Manifest, encoder: Encoder, progress: Progress) -> Scan:
    ask = options.validate
    portions, complete = spread(manifest, rows=ask.validate_rows, text_bytes=ask.validate_bytes)
    return scan(
        inputs.open_reader(options, manifest), encoder, portions, inputs.open_filters(options),
        complete=complete, text_bytes=ask.validate_bytes,
        progress=lambda done, total: progress("documents", done, total, "rows"),
    )  # fmt: skip


def _heldout(options: Options, manifest: Manifest, found: Scan, progress: Progress) -> tuple[Reader, HeldOut | None]:
    """The held-out slice of the sound files, and a reader of them; what is found damaged on the way is noted."""
    while True:
        damaged = {u.path for u in found.unreadable}
        sound = _without(manifest, damaged)
        reader = CarefulReader(
            sound, extra=columns_of(inputs.open_filters(options)), deadline_s=options.dataset.read_deadline_s
        )
        try:
            return reader, inputs.open_heldout(options, reader, progress)
        except DamagedRows as error:
            found.unreadable.append(error.place)


def _without(manifest: Manifest, damaged: set[str]) -> Manifest:
    return manifest.mapped(lambda i, f: None if manifest.label(i) in damaged else f)


def _tokens(encoder: Encoder, heldout: HeldOut | None) -> int:
    if heldout is None:
        return 0
    sizes = np.array([len(t.encode("utf-8", "surrogatepass")) for t in heldout.texts], np.int64)
    return int(lengths(encoder, heldout.texts, sizes).sum()) + len(sizes)
