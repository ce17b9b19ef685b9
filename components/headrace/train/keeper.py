"""Keeps the order ledger while a training goes on: what every step trained, on every rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from headrace.stream.batches import RankStream
from headrace.stream.ledger import CURSORS_EVERY, FOLDER, Ledger, LedgerWriter, next_start
from headrace.train.ranks import Ranks


class Keeper(TrainerCallback):
    """Writes this rank's part of each step's digest, and the lanes' cursors now and then."""

    def __init__(self, output_dir: Path, ranks: Ranks, stream: RankStream) -> None:
        self._folder, self._ranks, self._stream = output_dir / FOLDER, ranks, stream
        self._writer: LedgerWriter | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        start = self._ranks.together(lambda: next_start(self._folder))
        self._writer = LedgerWriter(self._folder, start=start, rank=self._ranks.rank, world_size=self._ranks.world_size)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._writer is not None:
            self._writer.append(state.global_step, self._stream.digest_at(state.global_step))
            if state.global_step % CURSORS_EVERY == 0:
                self.seal(state.global_step)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.seal(state.global_step)

    def seal(self, step: int) -> None:
        """Bring all that was written up to a step to the disk; every rank calls it before a commit."""
        if self._writer is not None:
            self._writer.note(self._stream.state_at(step))
            self._writer.flush()

    def head(self, step: int) -> str:
        """The ledger's head after a step, when all ranks have sealed it; empty where steps are missing."""
        return Ledger.read(self._folder).head(step)
