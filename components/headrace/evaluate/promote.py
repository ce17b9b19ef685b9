"""Judge, publish, make current: again from the beginning where another model became current meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.artifacts.storage import Store
from headrace.errors import AlreadyExists, HeadraceError
from headrace.evaluate.gate import Verdict
from headrace.evaluate.publish import Sealed, Staged, stage
from headrace.evaluate.scored import FILE
from headrace.evaluate.shelf import PROMOTED, Promotion, move, read_pointer
from headrace.inputs import Progress

log = logging.getLogger(__name__)

ATTEMPTS = 8
"""Other models that may become current while one is judged; each was judged itself, so there are few."""
Judge = Callable[[Promotion | None], Verdict]
"""What the gate says of the model beside the one that is current; the papers say so too when it returns."""


@dataclass(frozen=True)
class Promoted:
    """What the gate said at last, and where the version lies; staged: None when it was refused."""

    verdict: Verdict
    staged: Staged | None


def promote(
    store: Store,
    sealed: Sealed,
    judge: Judge,
    *,
    papers: Sequence[Path],
    scratch: Path,
    eval_loss: float | None,
    progress: Progress | None = None,
) -> Promoted:
    """Make a version current if the gate lets it pass beside the one that is current at that very moment.

    Of two models that are promoted at once one wins; the other is judged again, beside the winner. The model that is
    current already keeps its papers if its scores are the same.
    """
    version, record = sealed.version, sealed.record
    staged = None
    for _ in range(ATTEMPTS):
        pointer = read_pointer(store)
        current = pointer.current
        verdict = judge(current)
        if verdict.refused:
            if staged is not None:  # its papers there say that it passed
                stage(store, sealed, papers=papers, scratch=scratch)
            return Promoted(verdict, None)
        settled = current is not None and (current.version, current.commit_hash) == (version, record.hash)
        scores = next(path for path in papers if path.name == FILE)
        kept = settled and store.child(version).same(FILE, scores)
        staged = stage(store, sealed, papers=[] if kept else papers, scratch=scratch, progress=progress)
        if settled:
            return Promoted(verdict, staged)
        promotion = Promotion.now(version, record, PROMOTED, eval_loss=eval_loss, gate=_short(verdict))
        try:
            move(store, pointer, promotion)
        except AlreadyExists:
            log.warning("another model became current in %s meanwhile: judging again, beside that one", store.uri)
            continue
        return Promoted(verdict, staged)
    raise HeadraceError(
        f"{store.uri} had another current model {ATTEMPTS} times while this one was judged",
        "run the same command again when fewer models are published at once",
    )


def _short(verdict: Verdict) -> dict[str, Any]:
    """What the history keeps of a verdict."""
    compared = verdict.comparison or {}
    kept = {key: compared.get(key) for key in ("version", "difference", "interval")}
    return {"outcome": verdict.outcome, "compared": kept if compared.get("version") else None}
