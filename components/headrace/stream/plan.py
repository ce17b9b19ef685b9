"""The plan: everything that decides which tokens a step trains, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from headrace.stream.order import ORDER_VERSION, SEGMENT_FILES, WINDOW_BYTES, WINDOW_ROWS, Order, key
from headrace.stream.shards import Shards


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Equal plans give equal tokens at every step, on any number of ranks; the hash is in every checkpoint."""

    manifest_hash: str
    text_column: str
    tokenizer_hash: str
    eos_id: int
    heldout: str
    """Digest of the held-out slice, empty without one."""
    seed: int
    block: int
    """Tokens a sample, L."""
    grouped: bool
    """Documents packed end to end; otherwise a sample holds one document's tokens."""
    lanes: int
    global_batch: int
    """Samples an optimizer step, over all ranks."""
    filters: tuple[str, ...] = ("blank",)
    """Rows that are not trained."""
    dedup: str = ""
    """Scope in which copies are dropped: row_window, dataset with the digest of its bitmap, or empty for none."""
    mixture: tuple[int, ...] = ()
    """Weights of the sources, empty for one alone."""
    window_rows: int = WINDOW_ROWS
    window_bytes: int = WINDOW_BYTES
    segment_files: int = SEGMENT_FILES
    order_version: int = ORDER_VERSION

    @property
    def hash(self) -> str:
        """Hex SHA-256 of the canonical JSON of all fields."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return {**asdict(self), "filters": list(self.filters), "mixture": list(self.mixture)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """The plan that `to_json` gave."""
        known = {f.name: value[f.name] for f in fields(cls)}
        return cls(**{**known, "filters": tuple(known["filters"]), "mixture": tuple(known["mixture"])})

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """What another plan's JSON says differently, as `name: theirs → ours`, in the order of the fields."""
        mine = self.to_json()
        names = [*mine, *(k for k in other if k not in mine)]
        return [f"{n}: {_short(other.get(n))} → {_short(mine.get(n))}" for n in names if mine.get(n) != other.get(n)]

    def orders(self, shards: Shards) -> tuple[Order, ...]:
        """The order of this plan over each of its sources."""
        return tuple(
            Order(
                len(part.files),
                shards.row_groups,
                ahead=shards.ahead,
                first_file=first,
                # The first source's order is that of a dataset of its own.
                seed=key(self.seed, number) if number else self.seed,
                lanes=self.lanes,
                window_rows=self.window_rows,
                window_bytes=self.window_bytes,
                segment_files=self.segment_files,
            )
            for number, (part, first) in enumerate(zip(shards.manifest.parts, shards.manifest.firsts, strict=True))
        )


def _short(value: Any) -> str:
    text = "nothing" if value in (None, "") else str(value)
    return text[:12] if len(text) == 64 else text
