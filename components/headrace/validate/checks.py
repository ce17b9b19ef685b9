"""The checks: pure functions from facts to findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headrace.artifacts.report_format import count, percent, size
from headrace.stream.batches import efficiency
from headrace.stream.heldout import HeldOut
from headrace.stream.manifest import Manifest
from headrace.stream.order import exact_world_sizes
from headrace.stream.plan import Plan
from headrace.stream.survey import FileProblem
from headrace.validate.findings import Finding, Thresholds
from headrace.validate.scan import Scan

LARGE_ROW_GROUP = 64 << 20
SMALL_ROW_GROUP = 64 << 10
MANY_ROW_GROUPS = 1_000
FEW_DOCUMENTS = 30
_FILES_NAMED = 20

_PROBLEMS = {
    "unreadable": ("unreadable-file", "cannot be read", "Replace these files, or leave them out of --dataset_name."),
    "missing-column": ("missing-column", "lack the text column", "Set --dataset_text_field to a column they all have."),
    "wrong-type": ("wrong-type", "hold no text in the text column", "Set --dataset_text_field to a column of text."),
}


def schema(problems: Sequence[FileProblem], files: int) -> Iterator[Finding]:
    """No-go for files that cannot be read or lack a column of text."""
    for kind, (code, what, remedy) in _PROBLEMS.items():
        found = [p for p in problems if p.kind == kind]
        if found:
            which = f"{found[0].path}: {found[0].message.rstrip('.')}."
            columns = sorted({c for p in found for c in p.columns})
            yield Finding(
                code=code,
                severity="no-go",
                message=which if files == 1 else f"{len(found)} of {files} files {what}. {which}",
                evidence={
                    "files": len(found),
                    "examples": [f"{p.path}: {p.message}" for p in found[:_FILES_NAMED]],
                    **({"columns": columns} if columns else {}),
                },
                remedy=remedy,
            )


def data(found: Scan) -> Iterator[Finding]:
    """No-go for row groups whose data is damaged although their footers are well."""
    if found.unreadable:
        places = [str(u) for u in found.unreadable]
        yield Finding(
            code="unreadable-rows",
            severity="no-go",
            message=f"{_row_groups(len(places))} cannot be read. {places[0]}.",
            evidence={"row_groups": len(places), "examples": places[:_FILES_NAMED]},
            remedy="Replace these files: training would stop when it reaches them.",
        )


def tokens(manifest: Manifest, found: Scan, estimates: Mapping[str, Any]) -> Iterator[Finding]:
    """No-go when there is nothing to train on."""
    if not manifest.rows:
        yield Finding(
            code="no-rows",
            severity="no-go",
            message=f"{manifest.name} has no rows that can be read, in {count(len(manifest.files))} readable files.",
            remedy="Name a dataset, configuration and split that hold documents.",
        )
    elif not found.tokens.sum():
        yield Finding(
            code="no-tokens",
            severity="no-go",
            message=f"None of the {count(found.rows)} rows looked at gives a token.",
            evidence={"rows": found.rows, "nulls": found.nulls, "blanks": found.blanks},
            remedy="Check --dataset_text_field and the source.",
        )
    elif not estimates["train_tokens"]:
        yield Finding(
            code="no-tokens",
            severity="no-go",
            message="The held-out slice takes every document: none is left to train on.",
            evidence={"documents": estimates["documents"], "heldout_tokens": estimates["heldout_tokens"]},
            remedy="Lower --heldout_fraction, or name a larger dataset.",
        )


def waste(found: Scan, limits: Thresholds) -> Iterator[Finding]:
    """Rows that train nothing new: null, blank, or exact copies of another row."""
    if not found.rows:
        return
    unusable = found.nulls + found.blanks
    parts = [
        (
            "unusable-rows", unusable, "null or blank",
            {"nulls": found.nulls, "blanks": found.blanks}, ("null", "blank"),
            "Training drops these rows. Check --dataset_text_field, or clean the source.",
        ),
        (
            "duplicate-rows", found.duplicates, "exact copies of another row",
            {"duplicates": found.duplicates}, ("duplicate",),
            "Remove the copies from the source: each repeats tokens that are already there.",
        ),
    ]  # fmt: skip
    for code, n, what, facts, kinds, remedy in parts:
        if n:
            yield Finding(
                code=code,
                severity=limits.of_waste(n / found.rows),
                message=f"{_share(n, found)} are {what}.",
                evidence={"rows": found.rows, **facts, "examples": _examples(found, *kinds)},
                remedy=remedy,
            )
    together = wasted_share(found)
    worst = {limits.of_waste(n / found.rows) for _, n, *_ in parts}
    if limits.of_waste(together) not in worst:
        yield Finding(
            code="wasted-rows",
            severity=limits.of_waste(together),
            message=f"{percent(together)} of the rows looked at are null, blank or copies, taken together.",
            evidence={"rows": found.rows, "unusable": unusable, "duplicates": found.duplicates},
            remedy="Clean the source, or name a better one.",
        )


def filtered(found: Scan) -> Iterator[Finding]:
    """A note on rows that filters leave out."""
    if found.filtered:
        n = sum(found.filtered.values())
        yield Finding(
            code="filtered-rows",
            severity="info",
            message=f"{_share(n, found)} are left out by --dataset_filter.",
            evidence={"rows": found.rows, "by_filter": found.filtered},
            remedy="",
        )


def wasted_share(found: Scan) -> float:
    """Share of the rows looked at that are null, blank or exact copies."""
    return (found.nulls + found.blanks + found.duplicates) / found.rows if found.rows else 0.0


def damage(found: Scan, limits: Thresholds) -> Iterator[Finding]:
    """Rows with control characters, replacement characters or mojibake."""
    n = found.damaged["any"]
    if n:
        kinds = {k: v for k, v in found.damaged.items() if k != "any" and v}
        yield Finding(
            code="damaged-text",
            severity="warn" if n / found.rows >= limits.warn_damaged else "info",
            message=f"{_share(n, found)} hold control characters, replacement characters or UTF-8 that was "
            "decoded wrongly.",
            evidence={"rows": found.rows, "damaged": n, **kinds, "examples": _examples(found, *kinds)},
            remedy="Look at these rows; text decoded wrongly can be mended at the source (ftfy does that).",
        )


def budget(manifest: Manifest, found: Scan) -> Iterator[Finding]:
    """A note when only a sample was looked at."""
    if not found.complete and found.rows:
        yield Finding(
            code="sampled",
            severity="info",
            message=f"{count(found.rows)} of {count(manifest.rows)} rows were looked at, from "
            f"{count(len(found.groups))} of {count(manifest.row_groups)} row groups; totals are estimates.",
            evidence={"rows": found.rows, "bytes": found.bytes, "row_groups": len(found.groups)},
            remedy="Raise --validate_rows and --validate_bytes to look at more.",
        )


def units(manifest: Manifest, plan: Plan | None) -> Iterator[Finding]:
    """Notes on row groups: how large they are, and whether there are enough of them."""
    sizes = sorted(g.text_bytes for f in manifest.files for g in f.known if g.rows)
    if not sizes:
        return
    facts = {"row_groups": len(sizes), "median_bytes": sizes[len(sizes) // 2], "largest_bytes": sizes[-1]}
    if sizes[-1] > LARGE_ROW_GROUP:
        yield Finding(
            code="large-row-groups",
            severity="info",
            message=f"The largest row group holds {size(sizes[-1])} of text; it is read front to back.",
            evidence=facts,
            remedy="Write row groups of some 8 MB of text or less for a faster resume.",
        )
    if len(sizes) >= MANY_ROW_GROUPS and facts["median_bytes"] < SMALL_ROW_GROUP:
        yield Finding(
            code="small-row-groups",
            severity="info",
            message=f"Half of the {count(len(sizes))} row groups hold {size(facts['median_bytes'])} of text or less; "
            "each costs a request.",
            evidence=facts,
            remedy="Write fewer, larger row groups for a remote source.",
        )
    if plan is not None and len(sizes) < plan.lanes:
        yield Finding(
            code="few-units",
            severity="info",
            message=f"{_row_groups(len(sizes))} for {count(plan.lanes)} lanes: lanes share row groups, which are then "
            "read more than once.",
            evidence={"row_groups": len(sizes), "lanes": plan.lanes},
            remedy="Nothing to do for a small dataset; write a large one with more row groups, or set --lanes lower.",
        )


def world(plan: Plan | None, world_size: int | None, batch: int, limits: Thresholds) -> Iterator[Finding]:
    """A warning when a number of ranks does not fit the lanes and the global batch."""
    if plan is None or world_size is None:
        return
    exact = [w for w in exact_world_sizes(plan.global_batch, plan.lanes) if (plan.global_batch // w) % batch == 0]
    named = ", ".join(map(str, exact)) or "none with this per-device batch"
    facts = {"world_size": world_size, "lanes": plan.lanes, "global_batch": plan.global_batch, "exact": exact}
    if world_size > plan.lanes:
        yield Finding(
            code="world-size",
            severity="warn",
            message=f"{world_size} ranks share {plan.lanes} lanes: train refuses more ranks than lanes.",
            evidence=facts,
            remedy=f"Use a world size without filler ({named}), or raise --lanes and --global_batch_size.",
        )
        return
    share = efficiency(plan, world_size=world_size, batch=batch)
    if share < 1:
        yield Finding(
            code="world-size",
            severity="warn" if share < limits.warn_efficiency else "info",
            message=f"With {world_size} ranks {percent(1 - share)} of the rows of a step are filler.",
            evidence={**facts, "efficiency": round(share, 4)},
            remedy=f"World sizes without filler at {count(batch)} samples a micro-batch: {named}.",
        )


def slice_size(heldout: HeldOut | None, heldout_tokens: int) -> Iterator[Finding]:
    """A note on how much is held out, and what that means for evaluation."""
    if heldout is None or not heldout.texts:
        yield Finding(
            code="no-held-out-slice",
            severity="info",
            message="No document is held out of training.",
            remedy="Set --heldout_fraction above 0, or evaluate on another dataset.",
        )
        return
    n = len(heldout.texts)
    few = n < FEW_DOCUMENTS
    documents = "1 document" if n == 1 else f"{count(n)} documents"
    yield Finding(
        code="held-out-slice",
        severity="info",
        message=f"{documents}, some {count(heldout_tokens)} tokens, held out of training"
        + ("; so few that intervals of evaluation will be wide." if few else "."),
        evidence={"documents": n, "tokens": heldout_tokens, "digest": heldout.digest},
        remedy="Raise --heldout_fraction for a tighter evaluation." if few else "",
    )


def epoch(estimates: Mapping[str, Any], plan: Plan | None) -> Iterator[Finding]:
    """A note when one step takes more than the dataset has."""
    if plan is not None and 0 < estimates["train_tokens"] < plan.block * plan.global_batch:
        yield Finding(
            code="short-epoch",
            severity="info",
            message=f"A step trains {count(plan.block * plan.global_batch)} tokens; the dataset has some "
            f"{count(estimates['train_tokens'])}: documents repeat within one step.",
            evidence={"train_tokens": estimates["train_tokens"], "step_tokens": plan.block * plan.global_batch},
            remedy="Name a larger dataset, or lower the batch or --dataset_block_size.",
        )


def _share(n: int, found: Scan) -> str:
    return f"{percent(n / found.rows)} of the rows looked at ({count(n)} of {count(found.rows)})"


def _examples(found: Scan, *kinds: str) -> list[str]:
    return [place for kind in kinds for place in found.examples.get(kind, [])]


def _row_groups(n: int) -> str:
    return "1 row group" if n == 1 else f"{count(n)} row groups"
