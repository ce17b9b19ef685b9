"""The order ledger: what each step trained, as one number a step, and where the lanes stood every so often.

Append-only, in a folder beside the checkpoints, and kept when checkpoints are pruned. Every start of a run writes
files of its own, one a rank: `START-RANK-of-RANKS.bin` with records of (step, partial digest), and `.jsonl` with
cursors. A step's digest is the sum of its ranks' parts, so ranks need not talk. A start that goes on from step s
takes the place of everything written earlier about steps after s.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.stream.digest import MASK
from headrace.stream.steps import merge_states

FOLDER = "ledger"
CURSORS_EVERY = 100
"""Steps between two places from which the order can be replayed."""
_RECORD = struct.Struct("<QQ")
_NAME = re.compile(r"(\d{6})-(\d{5})-of-(\d{5})\.bin")


def next_start(folder: Path) -> int:
    """The number of the next start of a run: one more than any that wrote here."""
    return 1 + max((int(m[1]) for p in folder.glob("*.bin") if (m := _NAME.fullmatch(p.name))), default=0)


class LedgerWriter:
    """What one rank writes during one start: kept in memory until `flush`, as steps after a checkpoint are redone."""

    def __init__(self, folder: Path, *, start: int, rank: int, world_size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{start:06d}-{rank:05d}-of-{world_size:05d}.bin"
        self._records, self._lines = bytearray(), bytearray()

    def append(self, step: int, digest: int) -> None:
        """Note this rank's part of a step's digest."""
        self._records += _RECORD.pack(step, digest)

    def note(self, state: Mapping[str, Any]) -> None:
        """Note where this rank's lanes stand after a step."""
        self._lines += json.dumps(state, separators=(",", ":")).encode() + b"\n"

    def flush(self) -> None:
        """Bring everything to the disk: before a checkpoint that refers to it counts."""
        _append(self._path, self._records)
        _append(self._path.with_suffix(".jsonl"), self._lines)


def _append(path: Path, data: bytearray) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    data.clear()


@dataclass(frozen=True)
class Ledger:
    """What a run's folder says. digests: by step; states: of all lanes, by step, ascending."""

    digests: dict[int, int]
    states: dict[int, dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> Ledger:
        """The ledger in a folder; empty when there is none. A record cut short by a crash is left out."""
        starts: dict[int, dict[tuple[int, int], Path]] = {}
        for path in sorted(folder.glob("*.bin")):
            if match := _NAME.fullmatch(path.name):
                starts.setdefault(int(match[1]), {})[int(match[2]), int(match[3])] = path
        digests: dict[int, int] = {}
        states: dict[int, dict[str, Any]] = {}
        for _, files in sorted(starts.items()):
            found, first = _digests(files)
            digests = {step: d for step, d in digests.items() if first is None or step < first} | found
            states = {step: s for step, s in states.items() if first is None or step < first} | _states(files)
        return cls(digests, dict(sorted(states.items())))

    def head(self, step: int) -> str:
        """Hex SHA-256 over (step, digest) of every step up to one; empty when one of them is missing."""
        if any(s not in self.digests for s in range(1, step + 1)):
            return ""
        records = b"".join(_RECORD.pack(s, self.digests[s]) for s in range(1, step + 1))
        return hashlib.sha256(records).hexdigest()

    def nearest(self, step: int) -> dict[str, Any] | None:
        """The latest state at or before a step; None when the order must be replayed from its beginning."""
        before = [s for s in self.states if s <= step]
        return self.states[max(before)] if before else None


def _digests(files: Mapping[tuple[int, int], Path]) -> tuple[dict[int, int], int | None]:
    """A start's digests of the steps that all its ranks wrote, and the first step that any wrote.

    All ranks wait for it at every commit: what those that wrote the same steps have is added up as arrays.
    """
    alike: dict[bytes, tuple[NDArray[np.uint64], int]] = {}
    for path in files.values():
        data = path.read_bytes()
        records = np.frombuffer(data, "<u8", len(data) // _RECORD.size * 2).reshape(-1, 2)
        steps = records[:, 0].tobytes()
        sums, ranks = alike.get(steps, (np.zeros(len(records), np.uint64), 0))
        alike[steps] = (sums + records[:, 1], ranks + 1)  # wraps around, as the digest does
    parts: dict[int, tuple[int, int]] = {}
    for written, (sums, ranks) in alike.items():
        for step, part in zip(np.frombuffer(written, "<u8").tolist(), sums.tolist(), strict=True):
            digest, count = parts.get(step, (0, 0))
            parts[step] = ((digest + part) & MASK, count + ranks)
    everyone = max((n for _, n in files), default=1)
    return {step: d for step, (d, count) in parts.items() if count == everyone}, min(parts, default=None)


def _states(files: Mapping[tuple[int, int], Path]) -> dict[int, dict[str, Any]]:
    parts: dict[int, dict[int, dict[str, Any]]] = {}
    for (rank, _), path in files.items():
        lines = path.with_suffix(".jsonl").read_bytes() if path.with_suffix(".jsonl").is_file() else b""
        for line in lines[: lines.rfind(b"\n") + 1].splitlines():
            state = json.loads(line)
            parts.setdefault(int(state["step"]), {})[rank] = state
    ranks = max((n for _, n in files), default=1)
    return {step: merge_states([p[r] for r in sorted(p)]) for step, p in parts.items() if len(p) == ranks}
