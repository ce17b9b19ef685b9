"""The place where models are published: a folder a version, and `current.json`, which says which one counts.

All that was ever made current stands in `current.json` itself, so that pointer and history change in one write, and a
write that does not know of another's is refused.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headrace.artifacts.checkpoint import COMMIT, CommitRecord, parse_commit
from headrace.artifacts.files import parse_json
from headrace.artifacts.storage import Store
from headrace.errors import AlreadyExists, DamagedCheckpoint, InputError

CURRENT = "current.json"
PROMOTED, ROLLED_BACK = "promoted", "rolled back"
DEADLINE_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A version made current. by: promoted or rolled back; at: ISO 8601, UTC; gate: its verdict as in metrics.json."""

    version: str
    commit_hash: str
    step: int
    by: str
    at: str
    id: str
    eval_loss: float | None = None
    gate: Mapping[str, Any] | None = None

    @classmethod
    def now(cls, version: str, record: CommitRecord | Promotion, by: str, **known: Any) -> Promotion:
        """A promotion that happens now, of the model that a commit record vouches for."""
        commit_hash = record.hash if isinstance(record, CommitRecord) else record.commit_hash
        return cls(
            version=version, commit_hash=commit_hash, step=record.step, by=by,
            at=datetime.now(UTC).isoformat(timespec="seconds"), id=secrets.token_hex(8), **known,
        )  # fmt: skip


@dataclass(frozen=True)
class Pointer:
    """`current.json` as it was read: every promotion, the last one current; its generation, 0 when there is none."""

    promotions: tuple[Promotion, ...] = ()
    generation: int = 0

    @property
    def current(self) -> Promotion | None:
        """What is current; None where nothing was promoted yet."""
        return self.promotions[-1] if self.promotions else None

    @property
    def previous(self) -> Promotion | None:
        """What was current before, promotions that were rolled back left out; None when there is none."""
        stack: list[Promotion] = []
        for promotion in self.promotions:
            if promotion.by == ROLLED_BACK and promotion.version in {p.version for p in stack}:
                while stack.pop().version != promotion.version:
                    pass
            stack.append(promotion)
        earlier = [p for p in stack[:-1] if p.version != stack[-1].version]
        return earlier[-1] if earlier else None


def read_pointer(store: Store) -> Pointer:
    """What a place says is current; InputError when its `current.json` is not one."""
    found = store.read_at(CURRENT)
    if found is None:
        return Pointer()
    name = f"{store.uri}/{CURRENT}"
    value = parse_json(found[0], name)
    try:
        # Headrace 0.1 wrote the pointer alone.
        entries = value.get("promotions") or [{**_pointing(value), "by": PROMOTED, "at": "", "id": ""}]
        promotions = tuple(Promotion(**entry) for entry in entries)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{name} does not say which version is current: {error!r}", "restore it, or remove it"
        ) from error
    return Pointer(promotions, found[1])


def _pointing(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value[key] for key in ("version", "commit_hash", "step")}


def move(store: Store, pointer: Pointer, promotion: Promotion) -> Pointer:
    """Make a version current if nothing else became so since the pointer was read; else AlreadyExists."""
    promotions = (*pointer.promotions, promotion)
    history = [{k: v for k, v in vars(p).items() if v is not None} for p in promotions]
    value = {**_pointing(vars(promotion)), "uri": store.child(promotion.version).uri, "promotions": history}
    data = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    try:
        generation = store.replace(CURRENT, data, pointer.generation, deadline_s=DEADLINE_S)
    except AlreadyExists:
        now = read_pointer(store)
        if any(p.id == promotion.id for p in now.promotions):  # it was, the reply was lost, and another one followed
            return now
        raise
    return Pointer(promotions, generation)


def record_of(store: Store, version: str) -> CommitRecord:
    """What vouches for a version, every file of it there; InputError when it is unknown or not whole."""
    there = store.child(version)
    if not there.exists(COMMIT):
        raise InputError(
            f"there is no version {version!r} in {store.uri}", "`headrace models list` shows what there is"
        )
    record = parse_commit(parse_json(there.read(COMMIT), f"{there.uri}/{COMMIT}"), f"{there.uri}/{COMMIT}")
    missing = sorted(set(record.files) - set(there.names()))
    if missing:
        raise DamagedCheckpoint(f"{there.uri}/{missing[0]} is missing, but {COMMIT} names it", "publish it again")
    return record


def versions(store: Store, promotions: Sequence[Promotion]) -> list[str]:
    """Every version that lies there: in the order of their first promotions, then those never promoted by name."""
    there = {name.rpartition("/")[0] for name in store.names() if name.endswith(f"/{COMMIT}") and name.count("/") == 1}
    promoted = [version for version in dict.fromkeys(p.version for p in promotions) if version in there]
    return [*promoted, *sorted(there - set(promoted))]
