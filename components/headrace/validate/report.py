"""`report.json`: verdict, findings, and the facts behind them."""

from __future__ import annotations

from typing import Any

from headrace.artifacts.files import finite
from headrace.options import Options, training_value
from headrace.validate import estimates
from headrace.validate.checks import files, run, text, tokens
from headrace.validate.findings import Finding, Thresholds, verdict
from headrace.validate.look import Looked

VERSION = 2
_GRAVEST_FIRST = ("no-go", "warn", "info")


def make(options: Options, looked: Looked, thresholds: Thresholds | None = None) -> dict[str, Any]:
    """The report of a validation, ready for strict JSON."""
    manifest, found, limits = looked.manifest, looked.found, thresholds or Thresholds()
    numbers = estimates.estimates(manifest, found, looked.heldout, looked.plan)
    findings = _findings(options, looked, numbers, limits)
    return {
        "version": VERSION,
        "verdict": verdict(findings),
        "findings": [finite(f.to_json()) for f in findings],
        "dataset": {
            "name": manifest.name, "config": manifest.config, "split": manifest.split,
            "revision": manifest.revision, "text_column": manifest.text_column, "manifest_hash": manifest.hash,
            "files": len(manifest.files), "row_groups": manifest.row_groups, "rows": manifest.rows,
            "text_bytes": manifest.text_bytes,
        },
        "tokenizer": {
            "name": looked.encoder.name, "hash": looked.encoder.hash, "size": looked.encoder.size,
            "eos_id": looked.encoder.eos_id,
        },
        "model": {
            "name": options.model.model_name_or_path, "type": looked.limits.model_type,
            "vocab_size": looked.limits.vocab_size, "max_positions": looked.limits.max_positions,
        },
        "thresholds": vars(limits),
        "plan": looked.plan.to_json() if looked.plan else None,
        "heldout": _heldout(looked),
        "facts": finite(_facts(looked)),
        "estimates": finite(numbers),
        "reading": finite(looked.reading.to_json()) if looked.reading else None,
        "measured": finite(looked.rates.to_json()),
        "columns": finite(looked.measured.columns.report()),
        "histograms": estimates.histograms(found),
    }  # fmt: skip


def _findings(options: Options, looked: Looked, numbers: dict[str, Any], limits: Thresholds) -> list[Finding]:
    manifest, found, plan, measured = looked.manifest, looked.found, looked.plan, looked.measured
    ask, scanned = options.validate, looked.scanned
    shape = (plan.lanes, plan.block) if plan else (None, None)
    findings = [
        *files.schema(looked.survey.problems, looked.files),
        *files.data(found),
        *tokens.tokens(manifest, found, numbers),
        *text.waste(found, limits),
        *text.filtered(found),
        *text.damage(found, limits),
        *run.overlap(measured.overlap, found.rows / max(1, scanned.rows), limits),
        *run.world(plan, ask.world_size, training_value(options, "per_device_train_batch_size"), limits),
        *run.workers(plan, ask.world_size or 1, training_value(options, "dataloader_num_workers")),
        *run.speed(looked.rates, ask.gpu_tokens_per_s, limits),
        *tokens.fit(found, measured.counter, limits),
        *tokens.vocabulary(looked.encoder, looked.limits),
        *text.personal(found, measured.sightings, limits),
        *text.drift(scanned, measured.columns, measured.profiles, limits),
        *text.lengths(found, numbers["train_tokens"], *shape),
        *run.slice_size(looked.heldout, looked.heldout_tokens),
        *tokens.epoch(numbers, plan),
        *files.units(manifest, plan, looked.reading),
        *files.compression(manifest),
        *files.beside(looked.left_out),
        *files.amplification(looked.reading),
        *files.budget(manifest, found),
    ]
    return sorted(findings, key=lambda f: _GRAVEST_FIRST.index(f.severity))


def _heldout(looked: Looked) -> dict[str, Any] | None:
    if looked.heldout is None:
        return None
    return {
        "digest": looked.heldout.digest,
        "documents": len(looked.heldout.texts),
        "tokens": looked.heldout_tokens,
    }


def _facts(looked: Looked) -> dict[str, Any]:
    found, measured = looked.found, looked.measured
    kinds = {f"{k}_rows": v for k, v in found.damaged.items() if k != "any"}
    density = found.tokens[found.sizes > 0] / found.sizes[found.sizes > 0]
    shares = measured.overlap.shares()
    known = [s for s in shares if s is not None]
    return {
        "looked_at": {
            "complete": found.complete, "rows": found.rows, "bytes": found.bytes, "row_groups": len(found.groups),
        },
        "nulls": found.nulls,
        "blanks": found.blanks,
        "duplicates": found.duplicates,
        "wasted_share": text.wasted_share(found),
        "damaged": found.damaged["any"],
        **kinds,
        "tokens": int(found.tokens.sum()),
        "longest_tokens": int(found.tokens.max()) if len(found.tokens) else 0,
        "document_tokens": estimates.distribution(found.tokens),
        "document_bytes": estimates.distribution(found.sizes),
        "tokens_per_byte": estimates.distribution(density, 4),
        "vocabulary_used": measured.counter.distinct,
        "unknown_tokens": measured.counter.unknown,
        "byte_tokens": measured.counter.single_bytes,
        "private": {kind: measured.sightings.matches[kind] for kind in sorted(measured.sightings.matches)},
        "overlap": {
            "heldout_documents": len(shares), "with_ngrams": len(known), "most": max(known, default=None),
            "mean": sum(known) / len(known) if known else None, "training_documents": measured.overlap.documents,
        },
    }  # fmt: skip
