"""Runs the evaluation: what can be wrong first, then the model, then everything that comes of it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from headrace import inputs
from headrace.artifacts.bars import Bars
from headrace.artifacts.files import write_bytes, write_json
from headrace.artifacts.report import write_report
from headrace.artifacts.storage import Store, open_store
from headrace.errors import Refused
from headrace.evaluate.card import make_card, table
from headrace.evaluate.compare import compare
from headrace.evaluate.gate import OFF, Verdict, judge
from headrace.evaluate.lineage import make_lineage
from headrace.evaluate.parts import parts
from headrace.evaluate.prepared import Prepared, prepare
from headrace.evaluate.previous import find_previous
from headrace.evaluate.promote import Promoted, promote
from headrace.evaluate.publish import Sealed, Staged, seal
from headrace.evaluate.scored import FILE
from headrace.evaluate.scoring import Outcome, rescored, score
from headrace.evaluate.shelf import Promotion, read_pointer
from headrace.evaluate.tracking import track
from headrace.options import Options
from headrace.scoring import metrics as named_metrics
from headrace.scoring.scores import Scores

METRICS, LINEAGE, CARD, REPORT, SCORES = "metrics.json", "lineage.json", "README.md", "report.html", FILE
STAGING = "publish"


def run(options: Options, output_dir: Path) -> dict[str, Any]:
    """Score, publish and record; facts for `outcome.json`. Rank 0 alone writes, and prints the results to stdout.

    Refused when the gate does not let the model pass: everything is recorded then, and nothing published.
    """
    inputs.required(options, "model_name_or_path")
    open_store(str(output_dir)).check_writable()
    store = open_store(options.evaluate.publish or str(output_dir / "published"))
    store.check_writable()
    read_pointer(store)  # one that cannot be read is told of before anything is scored
    with tempfile.TemporaryDirectory(prefix="headrace-evaluate-") as scratch, Bars(output_dir) as bars:
        prepared = prepare(options, Path(scratch), bars if _main_rank() else None)
        if not _main_rank():
            score(prepared, None)
            return {}
        trust = options.model.trust_remote_code
        sealed = seal(prepared.subject, Path(scratch) / STAGING, trust_remote_code=trust)
        outcome = score(prepared, bars)
        return _finish(prepared, sealed, outcome, output_dir, store, Path(scratch), bars)


def _main_rank() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _finish(
    prepared: Prepared,
    sealed: Sealed,
    outcome: Outcome,
    output_dir: Path,
    store: Store,
    scratch: Path,
    progress: inputs.Progress,
) -> dict[str, Any]:
    """Everything that comes of the scores, the surest first: files here, publication, tracking, words."""
    subject, options, scores = prepared.subject, prepared.options.evaluate, outcome.scores
    metrics = make_metrics(prepared, scores, sealed.version)
    write_json(output_dir / METRICS, metrics)
    lineage = make_lineage(
        subject, sealed.version, prepared.chosen, accelerator=outcome.accelerator, started=prepared.started
    )
    mine = outcome.scored(prepared)
    mine.write(output_dir / SCORES)
    if prepared.metrics:  # code of the user's, which may fail: only now
        metrics["metrics"] = named_metrics.compute(prepared.metrics, scores)
        write_json(output_dir / METRICS, metrics)

    def judged(current: Promotion | None) -> Verdict:
        comparison = None
        if options.gate != OFF:
            comparison = compare(
                store, current, sealed.record.hash, mine,
                lambda location: rescored(prepared, location, scratch, progress), seed=prepared.seed,
            )  # fmt: skip
        verdict = judge(options.gate, prepared.thresholds, metrics, comparison, options.gate_max_regression)
        metrics["gate"] = lineage["gate"] = verdict.to_json()
        # Asked each time: another model may have become the current one meanwhile.
        previous = find_previous(store, output_dir, sealed.version)
        _write_papers(prepared, metrics, lineage, previous, output_dir)
        return verdict

    promoted = promote(
        store, sealed, judged,
        papers=[output_dir / name for name in (CARD, METRICS, LINEAGE, REPORT, SCORES)],
        scratch=scratch, eval_loss=metrics["eval_loss"], progress=progress,
    )  # fmt: skip
    recorded = track(
        output_dir,
        project=prepared.options.tracking.wandb_project,
        version=sealed.version,
        training=subject.record,
        metrics=metrics,
        lineage=lineage,
    )
    _tell(prepared, metrics, promoted.verdict, promoted.staged, recorded, output_dir)
    return _facts(prepared, metrics, promoted)


def _facts(prepared: Prepared, metrics: dict[str, Any], promoted: Promoted) -> dict[str, Any]:
    """What `outcome.json` says; Refused when the model was not published."""
    if promoted.staged is None:
        raise Refused(
            f"the gate refused the model: {'; '.join(promoted.verdict.reasons)}",
            "it is not published; train on, change --gate_threshold or --gate_max_regression, or publish it all the "
            "same with --gate warn",
        )
    commit = prepared.subject.commit
    names = ("eval_loss", "perplexity", "accuracy", "bits_per_byte", "tokens", "documents")
    return {
        **{name: metrics[name] for name in names},
        "heldout_made": prepared.chosen.made,
        "version": metrics["version"],
        "commit_hash": commit.hash if commit else None,
        "step": commit.step if commit else None,
        "gate": promoted.verdict.outcome,
        "published": promoted.staged.uri,
    }


def _write_papers(
    prepared: Prepared,
    metrics: dict[str, Any],
    lineage: dict[str, Any],
    previous: dict[str, Any] | None,
    output_dir: Path,
) -> None:
    subject = prepared.subject
    write_json(output_dir / METRICS, metrics)
    write_json(output_dir / LINEAGE, lineage)
    write_bytes(output_dir / CARD, make_card(name=metrics["version"], metrics=metrics, lineage=lineage).encode())
    write_report(
        output_dir / REPORT,
        title=f"{metrics['version']} on held-out documents",
        training=subject.record,
        validation=subject.validation,
        metrics=metrics,
        lineage=lineage,
        previous=previous,
    )


def make_metrics(prepared: Prepared, scores: Scores, version: str) -> dict[str, Any]:
    """The content of metrics.json."""
    chosen = prepared.chosen
    metrics: dict[str, Any] = {
        **scores.summary(seed=prepared.seed),
        **parts(scores, chosen.sources, seed=prepared.seed),
        "block": prepared.block,
        "heldout": chosen.slice.digest,
        "heldout_made": chosen.made,
        "version": version,
    }
    if prepared.caution:
        metrics["heldout_note"] = prepared.caution
    return metrics


def _tell(
    prepared: Prepared,
    metrics: dict[str, Any],
    verdict: Verdict,
    published: Staged | None,
    recorded: Path | None,
    output_dir: Path,
) -> None:
    """The results in words, on stdout."""
    chosen = prepared.chosen
    lines = [
        f"{prepared.subject.location} ({metrics['version']}), on {chosen.slice.table.num_rows} documents "
        f"{chosen.origin} (slice {chosen.slice.digest[:12]})",
        "",
        table(metrics),
        "",
        f"report     {output_dir / REPORT}",
        f"metrics    {output_dir / METRICS}",
        f"gate       {verdict.outcome}" + (f": {'; '.join(verdict.reasons)}" if verdict.reasons else ""),
    ]
    if published is not None:
        lines.append(f"published  {published.uri}" + ("" if published.written else " (was there already)"))
    if recorded is not None:
        lines.append(f"W&B        {recorded}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
