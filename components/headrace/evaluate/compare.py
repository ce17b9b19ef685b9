"""A model held against the one that is current where it is to be published, on the same documents."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.artifacts.storage import Store
from headrace.errors import InputError
from headrace.evaluate.gate import Comparison
from headrace.evaluate.scored import FILE, Scored
from headrace.evaluate.shelf import Promotion
from headrace.scoring.paired import FEWEST_DOCUMENTS, difference

log = logging.getLogger(__name__)

PUBLISHED, AGAIN = "published with it", "made anew"
Rescore = Callable[[str], Scored]
"""Scores of the model at a location, made now on the same documents; InputError when it cannot be brought here."""


def compare(
    store: Store, current: Promotion | None, commit_hash: str, mine: Scored, rescore: Rescore, *, seed: int
) -> Comparison:
    """The model beside the current one, whose own scores serve where they are of the same slice, tokenizer and block.

    Otherwise the current model is scored here. Where that is impossible the comparison says why.
    """
    if current is None:
        return Comparison()
    if current.commit_hash == commit_hash:
        return Comparison(version=current.version, itself=True)
    known: dict[str, Any] = {"version": current.version}
    documents = len(mine.hash)
    if documents < FEWEST_DOCUMENTS:
        problem = f"{documents} documents are too few, at least {FEWEST_DOCUMENTS} are needed"
        return Comparison(**known, problem=problem)
    theirs, why = published(store, current.version, mine)
    known["how"] = PUBLISHED if theirs is not None else AGAIN
    if theirs is None:
        log.info("scoring %s, which is current, on the same documents: %s", current.version, why)
        try:
            theirs = rescore(store.child(current.version).uri)
        except InputError as error:
            return Comparison(version=current.version, problem=f"{why}, and it cannot be scored anew: {error.message}")
    # Of the same text: also where two tokenizers cut it differently, the sums of nats compare.
    found = difference(mine.loss, theirs.loss, mine.tokens, seed=seed)
    if not np.isfinite(found.nats):
        if np.isfinite(mine.loss).all():
            return Comparison(**known, block=theirs.terms.block, hollow=True)
        return Comparison(**known, block=theirs.terms.block, problem="its loss is no finite number")
    return Comparison(**known, block=theirs.terms.block, difference=found)


def published(store: Store, version: str, mine: Scored) -> tuple[Scored | None, str]:
    """The scores that were published with a version, if they are of the same terms; else why they do not serve."""
    there = store.child(version)
    if not there.exists(FILE):
        return None, f"{FILE} was not published with it"
    try:
        theirs = Scored.read(there.read(FILE), f"{there.uri}/{FILE}")
    except InputError as error:
        return None, error.message
    ours, terms = vars(mine.terms), vars(theirs.terms)
    other = [name for name, value in ours.items() if terms[name] != value]
    if other:
        return None, f"it was published with scores of another {' and '.join(other)}"
    if not np.array_equal(theirs.hash, mine.hash):
        return None, "it was published with scores of other documents"
    return theirs, ""
