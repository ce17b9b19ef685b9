"""`report.json`: verdict, findings, and the facts behind them."""

from __future__ import annotations

from typing import Any

from headrace.artifacts.files import finite
from headrace.options import Options, training_value
from headrace.validate import checks, estimates
from headrace.validate.findings import Finding, Thresholds, verdict
from headrace.validate.look import Looked

VERSION = 1
_GRAVEST_FIRST = ("no-go", "warn", "info")


def make(options: Options, looked: Looked, thresholds: Thresholds | None = None) -> dict[str, Any]:
    """The report of a validation, ready for strict JSON."""
    manifest, found = looked.manifest, looked.found
    numbers = estimates.estimates(manifest, found, looked.heldout, looked.plan)
    findings = _findings(options, looked, numbers, thresholds or Thresholds())
    return {
        "version": VERSION,
        "verdict": verdict(findings),
        "findings": [f.to_json() for f in findings],
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
        "plan": looked.plan.to_json() if looked.plan else None,
        "heldout": _heldout(looked),
        "facts": _facts(looked),
        "estimates": finite(numbers),
        "histograms": estimates.histograms(found),
    }  # fmt: skip


def _findings(options: Options, looked: Looked, numbers: dict[str, Any], limits: Thresholds) -> list[Finding]:
    manifest, found, plan = looked.manifest, looked.found, looked.plan
    findings = [
        *checks.schema(looked.survey.problems, looked.files),
        *checks.data(found),
        *checks.tokens(manifest, found, numbers),
        *checks.waste(found, limits),
        *checks.filtered(found),
        *checks.damage(found, limits),
        *checks.world(
            plan, options.validate.world_size, training_value(options, "per_device_train_batch_size"), limits
        ),
        *checks.slice_size(looked.heldout, looked.heldout_tokens),
        *checks.epoch(numbers, plan),
        *checks.units(manifest, plan),
        *checks.budget(manifest, found),
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
    found = looked.found
    kinds = {f"{k}_rows": v for k, v in found.damaged.items() if k != "any"}
    density = found.tokens[found.sizes > 0] / found.sizes[found.sizes > 0]
    return {
        "looked_at": {
            "complete": found.complete, "rows": found.rows, "bytes": found.bytes, "row_groups": len(found.groups),
        },
        "nulls": found.nulls,
        "blanks": found.blanks,
        "duplicates": found.duplicates,
        "wasted_share": checks.wasted_share(found),
        "damaged": found.damaged["any"],
        **kinds,
        "tokens": int(found.tokens.sum()),
        "longest_tokens": int(found.tokens.max()) if len(found.tokens) else 0,
        "document_tokens": estimates.distribution(found.tokens),
        "document_bytes": estimates.distribution(found.sizes),
        "tokens_per_byte": estimates.distribution(density, 4),
    }  # fmt: skip
