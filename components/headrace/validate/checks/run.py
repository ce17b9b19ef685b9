"""Checks of how the data suits the training that was asked for: ranks, workers, speed, evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.artifacts.report_format import count, percent, short
from headrace.stream.batches import efficiency
from headrace.stream.heldout import HeldOut
from headrace.stream.order import exact_world_sizes
from headrace.stream.plan import Plan
from headrace.validate.checks.wording import FILES_NAMED, things
from headrace.validate.findings import Finding, Severity, Thresholds, warn_from
from headrace.validate.forecast import Rates
from headrace.validate.overlap import N, Overlap

FEW_DOCUMENTS = 30


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
            message=f"{world_size} ranks share {plan.lanes} lanes.",
            evidence=facts,
            consequence="Train refuses more ranks than lanes.",
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
            consequence="GPUs compute filler rows that train nothing.",
            remedy=f"World sizes without filler at {count(batch)} samples a micro-batch: {named}.",
        )


def workers(plan: Plan | None, world_size: int, asked: int) -> Iterator[Finding]:
    """A note on more workers than a rank has lanes to read."""
    if plan is None or world_size > plan.lanes:
        return
    lanes = -(-plan.lanes // world_size)
    if asked > lanes:
        yield Finding(
            code="idle-workers",
            severity="info",
            message=f"--dataloader_num_workers is {asked}; each of {things(world_size, 'rank')} reads "
            f"{things(lanes, 'lane')}.",
            evidence={"workers": asked, "lanes_per_rank": lanes, "world_size": world_size},
            consequence=f"No more than {lanes} of them have work.",
            remedy=f"Set --dataloader_num_workers to {lanes} or less, or raise --lanes.",
        )


def slice_size(heldout: HeldOut | None, heldout_tokens: int) -> Iterator[Finding]:
    """A note on how much is held out, and what that means for evaluation."""
    if heldout is None or not heldout.texts:
        yield Finding(
            code="no-held-out-slice",
            severity="info",
            message="No document is held out of training.",
            consequence="There is nothing to evaluate on that was not trained.",
            remedy="Set --heldout_fraction above 0, or evaluate on another dataset.",
        )
        return
    n = len(heldout.texts)
    few = n < FEW_DOCUMENTS
    yield Finding(
        code="held-out-slice",
        severity="info",
        message=f"{things(n, 'document')}, some {count(heldout_tokens)} tokens, held out of training.",
        evidence={"documents": n, "tokens": heldout_tokens, "digest": heldout.digest},
        consequence="So few that intervals of evaluation will be wide." if few else "",
        remedy="Raise --heldout_fraction for a tighter evaluation." if few else "",
    )


def overlap(found: Overlap, looked: float, limits: Thresholds) -> Iterator[Finding]:
    """A warning when much of the held-out slice occurs in documents that are trained.

    looked: share of the training rows that were searched.
    """
    shares = [s for s in found.shares() if s is not None]
    places = found.overlapping(limits.overlap_ngrams)
    if not places:
        return
    share, enough = len(places) / len(found.shares()), len(places) >= limits.warn_overlap_documents
    severity: Severity = "warn" if enough and share >= limits.warn_overlap else "info"
    yield Finding(
        code="overlap",
        severity=severity,
        message=f"{things(len(places), 'held-out document')} ({percent(share)}) can be read in training documents, "
        f"{percent(limits.overlap_ngrams, 0)} or more of their {N}-grams; {percent(looked)} of the training rows were "
        "searched.",
        evidence={
            "documents": len(places), "heldout_documents": len(found.shares()), "heldout_with_ngrams": len(shares),
            "n": N, "share_of_ngrams": limits.overlap_ngrams, "training_rows_searched": looked,
            "training_documents_searched": found.documents, "examples": [str(p) for p in places[:FILES_NAMED]],
        },
        consequence="Evaluation looks better than the model is. Exact copies are kept out of training anyway.",
        remedy="Remove near copies from the source, or evaluate on another dataset.",
    )  # fmt: skip


def speed(rates: Rates, needed: float | None, limits: Thresholds) -> Iterator[Finding]:
    """Whether the stream keeps up with GPUs, or from which rate on it would not."""
    supply = rates.rank_tokens_per_s
    if supply is None:
        return
    facts: dict[str, Any] = rates.to_json()
    by = f"{rates.slower} with {things(rates.readers if rates.slower == 'reading' else rates.encoders, 'thread')}"
    if needed is None or supply >= needed:
        margin = "" if needed is None else f" ({short(needed)} are needed)"
        yield Finding(
            code="stream-rate",
            severity="info",
            message=f"As measured here the stream gives a rank some {short(supply)} tokens/s{margin}, limited by {by}.",
            evidence=facts if needed is None else {**facts, "needed_tokens_per_s": needed},
            consequence="A GPU that trains more than that would wait for data.",
            remedy="" if needed else "Set --gpu_tokens_per_s to what a GPU trains, for a forecast.",
        )
        return
    waiting = 1 - supply / needed
    yield Finding(
        code="stall",
        severity=warn_from(waiting, limits.warn_stall),
        message=f"As measured here the stream gives a rank some {short(supply)} tokens/s, limited by {by}; a GPU "
        f"trains {short(needed)}.",
        evidence={**facts, "needed_tokens_per_s": needed, "waiting": round(waiting, 4)},
        consequence=f"GPUs would wait {percent(waiting)} of the time.",
        remedy="Give each rank more cores and --dataloader_num_workers, copy the data nearer, or tokenise it "
        "beforehand with --dataset_streaming false.",
    )
