"""What can be wrong, looked at before a model is loaded."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headrace import inputs
from headrace.evaluate.gate import Threshold
from headrace.evaluate.heldout import Chosen, caution, choose
from headrace.evaluate.subject import Subject, open_subject
from headrace.options import Options
from headrace.scoring import metrics as named_metrics
from headrace.stream.tokenizer import Encoder, ModelLimits

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """Everything that scoring needs, looked at before a model is loaded. options: of the model as it lies here."""

    options: Options
    subject: Subject
    encoder: Encoder
    block: int
    metrics: list[tuple[str, Any]]
    thresholds: tuple[Threshold, ...]
    chosen: Chosen
    caution: str
    """Why the documents may have been trained on, if anything says so."""
    started: float
    """Seconds of the monotonic clock."""

    @property
    def seed(self) -> int:
        """Of every bootstrap."""
        return int(self.options.training.get("seed", 42))


def prepare(options: Options, scratch: Path, progress: inputs.Progress | None = None) -> Prepared:
    """Bring everything here and look at it; InputError for what cannot be scored, before torch is imported."""
    thresholds = tuple(Threshold.parse(text) for text in options.evaluate.gate_threshold or ())
    subject = open_subject(options, scratch)
    here = replace(options, model=replace(options.model, model_name_or_path=str(subject.folder), model_revision=None))
    limits, encoder = inputs.open_limits(here), inputs.open_encoder(here)
    block = _block(here, limits, subject.record)
    metrics = [(name, named_metrics.load_metric(name)) for name in options.evaluate.metric or ()]
    chosen = choose(options, subject.record, progress)
    note = caution(chosen, subject.record, subject.folder)
    if note:
        log.warning("%s", note)
    return Prepared(
        options=here, subject=subject, encoder=encoder, block=block, metrics=metrics, thresholds=thresholds,
        chosen=chosen, caution=note, started=time.monotonic(),
    )  # fmt: skip


def _block(options: Options, limits: ModelLimits, record: dict[str, Any]) -> int:
    """Tokens in view: as asked, else as in training, beyond which a model may know no positions, else its limit."""
    trained = record.get("block")
    if isinstance(trained, int) and not options.given & {"dataset_block_size", "dataset_max_seq_length"}:
        return trained
    return inputs.block_size(options, limits)
