"""Runs the evaluation: what can be wrong first, then the model, then everything that comes of it."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headrace import inputs
from headrace.artifacts.bars import Bars
from headrace.artifacts.files import write_bytes, write_json
from headrace.artifacts.report import write_report
from headrace.artifacts.storage import Store, open_store
from headrace.errors import InputError, Refused
from headrace.evaluate.card import make_card, table
from headrace.evaluate.gate import Threshold, Verdict, judge
from headrace.evaluate.heldout import Chosen, caution, choose
from headrace.evaluate.lineage import make_lineage
from headrace.evaluate.publish import Published, publish
from headrace.evaluate.subject import Subject, open_subject
from headrace.evaluate.tracking import track
from headrace.options import Options
from headrace.scoring import metrics as named_metrics
from headrace.scoring.scores import Scores
from headrace.stream.tokenizer import Encoder, ModelLimits

log = logging.getLogger(__name__)

METRICS, LINEAGE, CARD, REPORT = "metrics.json", "lineage.json", "README.md", "report.html"


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


def run(options: Options, output_dir: Path) -> dict[str, Any]:
    """Score, publish and record; facts for `outcome.json`. Rank 0 alone writes, and prints the results to stdout.

    Refused when the gate does not let the model pass: everything is recorded then, and nothing published.
    """
    inputs.required(options, "model_name_or_path")
    if options.evaluate.eval_batch_size < 1:
        raise InputError(f"--eval_batch_size is {options.evaluate.eval_batch_size}, expected 1 or more")
    open_store(str(output_dir)).check_writable()
    store = open_store(options.evaluate.publish or str(output_dir / "published"))
    store.check_writable()
    with tempfile.TemporaryDirectory(prefix="headrace-evaluate-") as scratch, Bars(output_dir) as bars:
        prepared = prepare(options, Path(scratch), bars if _main_rank() else None)
        scores = _score(prepared, bars if _main_rank() else None)
        if not _main_rank():
            return {}
        return _finish(prepared, scores, output_dir, store, Path(scratch), bars)


def prepare(options: Options, scratch: Path, progress: inputs.Progress | None = None) -> Prepared:
    """Bring everything here and look at it; InputError for what cannot be scored, before torch is imported."""
    thresholds = tuple(Threshold.parse(text) for text in options.evaluate.gate_threshold or ())
    subject = open_subject(options, scratch)
    here = replace(options, model=replace(options.model, model_name_or_path=str(subject.folder), model_revision=None))
    limits, encoder = inputs.open_limits(here), inputs.open_encoder(here)
    block = _block(here, limits, subject.record)
    metrics = [(name, named_metrics.load_metric(name)) for name in options.evaluate.metric or ()]
    chosen = choose(options, progress)
    note = caution(chosen, subject.record, subject.folder)
    if note:
        log.warning("%s", note)
    return Prepared(
        options=here, subject=subject, encoder=encoder, block=block, metrics=metrics, thresholds=thresholds,
        chosen=chosen, caution=note,
    )  # fmt: skip


def _block(options: Options, limits: ModelLimits, record: dict[str, Any]) -> int:
    """Tokens in view: as asked, else as in training, beyond which a model may know no positions, else its limit."""
    trained = record.get("block")
    if isinstance(trained, int) and not options.given & {"dataset_block_size", "dataset_max_seq_length"}:
        return trained
    return inputs.block_size(options, limits)


def _main_rank() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _score(prepared: Prepared, progress: inputs.Progress | None) -> Scores:
    """Load the model and score; on every rank that a launcher started."""
    import torch
    from accelerate import PartialState

    from headrace.scoring.models import load_model
    from headrace.scoring.score import score_documents

    options = prepared.options
    if options.train.torch_threads:
        torch.set_num_threads(options.train.torch_threads)
    model = load_model(prepared.subject.folder, options.model)
    # Unless told so, accelerate would let each process on a CPU score everything by itself.
    state = PartialState(cpu=bool(options.training.get("use_cpu")) or not torch.accelerator.is_available())
    try:
        model.to(state.device)
        return score_documents(
            model,
            prepared.encoder,
            prepared.chosen.slice.texts,
            block=prepared.block,
            batch_size=options.evaluate.eval_batch_size,
            device=state.device,
            keep_predictions=bool(prepared.metrics),
            progress=progress,
        )
    finally:
        if state.num_processes > 1:
            state.destroy_process_group()


def _finish(
    prepared: Prepared, scores: Scores, output_dir: Path, store: Store, scratch: Path, progress: inputs.Progress
) -> dict[str, Any]:
    """Everything that comes of the scores, the surest first: files here, publication, tracking, words."""
    subject, chosen = prepared.subject, prepared.chosen
    metrics = make_metrics(prepared, scores)
    write_json(output_dir / METRICS, metrics)
    if prepared.metrics:  # code of the user's, which may fail: only now
        metrics["metrics"] = named_metrics.compute(prepared.metrics, scores)
        write_json(output_dir / METRICS, metrics)
    verdict = judge(prepared.options.evaluate.gate, prepared.thresholds, metrics)
    metrics["gate"] = verdict.to_json()
    write_json(output_dir / METRICS, metrics)
    lineage = make_lineage(subject, chosen)
    write_json(output_dir / LINEAGE, lineage)
    write_bytes(output_dir / CARD, make_card(name=subject.version, metrics=metrics, lineage=lineage).encode())
    write_report(
        output_dir / REPORT,
        title=f"{subject.version} on held-out documents",
        training=subject.record,
        validation=subject.validation,
        metrics=metrics,
        lineage=lineage,
    )
    published = None
    if not verdict.refused:
        published = publish(
            store, subject.version, model=subject.files,
            papers=[output_dir / name for name in (CARD, METRICS, LINEAGE, REPORT)],
            origin=subject.commit, scratch=scratch, progress=progress,
        )  # fmt: skip
    recorded = track(
        output_dir,
        project=prepared.options.evaluate.wandb_project,
        name=subject.version,
        config=lineage,
        history=subject.record.get("history") or [],
        metrics=_numbers({**metrics, **metrics.get("metrics", {})}),
    )
    _tell(prepared, metrics, verdict, published, recorded, output_dir)
    if published is None:
        raise Refused(
            f"the gate refused the model: {'; '.join(verdict.reasons)}",
            "it is not published; train on, change --gate_threshold, or publish it all the same with --gate warn",
        )
    return {
        **{
            key: metrics[key] for key in ("eval_loss", "perplexity", "accuracy", "bits_per_byte", "tokens", "documents")
        },
        "heldout_made": chosen.made,
        "version": subject.version,
        "commit_hash": subject.commit.hash if subject.commit else None,
        "step": subject.commit.step if subject.commit else None,
        "gate": verdict.outcome,
        "published": published.uri,
    }


def make_metrics(prepared: Prepared, scores: Scores) -> dict[str, Any]:
    """The content of metrics.json."""
    subject, chosen = prepared.subject, prepared.chosen
    metrics: dict[str, Any] = {
        **scores.summary(seed=int(prepared.options.training.get("seed", 42))),
        "block": prepared.block,
        "heldout": chosen.slice.digest,
        "heldout_made": chosen.made,
        "version": subject.version,
    }
    if prepared.caution:
        metrics["heldout_note"] = prepared.caution
    return metrics


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {k: v for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _tell(
    prepared: Prepared,
    metrics: dict[str, Any],
    verdict: Verdict,
    published: Published | None,
    recorded: Path | None,
    output_dir: Path,
) -> None:
    """The results in words, on stdout."""
    chosen = prepared.chosen
    lines = [
        f"{prepared.subject.location} ({prepared.subject.version}), on {chosen.slice.table.num_rows} documents "
        f"{chosen.origin} (slice {chosen.slice.digest[:12]})",
        "",
        table(metrics),
        "",
        f"report     {output_dir / REPORT}",
        f"metrics    {output_dir / METRICS}",
        f"gate       {verdict.outcome}" + (f": {'; '.join(verdict.reasons)}" if prepared.thresholds else ""),
    ]
    if published is not None:
        lines.append(f"published  {published.uri}" + ("" if published.written else " (was there already)"))
    if recorded is not None:
        lines.append(f"W&B        {recorded}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
