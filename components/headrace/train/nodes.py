"""Nodes that do not share a disk: what each writes reaches rank 0 before a commit, what is resumed reaches each.

Rank 0 writes the model and the optimizer; the other ranks write their random numbers and their part of the ledger,
a few kilobytes a step. Where the output folder lies on one disk for all, nothing here does anything.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.artifacts.files import files_below
from headrace.errors import HeadraceError, InputError
from headrace.train.committer import disk_error
from headrace.train.ranks import Ranks, local_rank

if TYPE_CHECKING:
    from transformers import TrainingArguments

Part = tuple[str, int, bytes]
"""A file's name below the output folder, where its new bytes begin, and the bytes."""


class Nodes:
    """Whether all ranks see rank 0's output folder, and how files travel when they do not. All ranks call all of it."""

    def __init__(self, output_dir: Path, ranks: Ranks) -> None:
        self._folder, self._ranks = output_dir, ranks
        self._sent: dict[str, int] = {}
        mark = ranks.together(self._mark)
        seen = (output_dir / mark).is_file()
        self.apart = not all(ranks.gather(seen))
        """Whether some node has a disk of its own."""
        self.leads = not seen and local_rank() == 0
        """Whether this rank speaks for a node that does not see rank 0's disk."""
        ranks.together(lambda: (output_dir / mark).unlink())

    def _mark(self) -> str:
        name = f".headrace-{secrets.token_hex(8)}"
        (self._folder / name).touch()
        return name

    def require(self, args: TrainingArguments, store: str | None, tokenized: Path | None) -> None:
        """InputError for what takes one disk for all nodes, when they have none."""
        if not self.apart:
            return
        needs = {
            "a training without --store": store is None,
            "--dataset_streaming false": tokenized is not None,
            "--fsdp": bool(args.fsdp),
            "--deepspeed": bool(args.deepspeed),
            "--load_best_model_at_end": args.load_best_model_at_end,
        }
        for what in (what for what, given in needs.items() if given):
            raise InputError(
                f"{what} takes one disk for all nodes, and not all of them see {self._folder} of rank 0",
                "put --output_dir on a disk that all nodes share"
                + (", or name a bucket with --store" if store is None else ""),
            )

    def make_way(self) -> None:
        """Remove what this node has of earlier checkpoints: rank 0 has them whole."""
        if self.leads:
            for folder in self._folder.glob("checkpoint-*"):
                shutil.rmtree(folder, ignore_errors=True)
            self._sent = {name: sent for name, sent in self._sent.items() if not name.startswith("checkpoint-")}

    def collect(self, *folders: Path) -> None:
        """Bring what the other nodes wrote below these folders, since the last time, to rank 0's disk."""
        if not self.apart:
            return
        parts = self._ranks.to_first([part for folder in folders for part in self._new(folder)] if self.leads else [])
        self._ranks.together(lambda: self._write([part for some in parts for part in some]))

    def _new(self, folder: Path) -> list[Part]:
        found: list[Part] = []
        for below in files_below(folder) if folder.is_dir() else []:
            name = f"{folder.name}/{below}"
            begin = self._sent.get(name, 0)
            with (self._folder / name).open("rb") as file:
                file.seek(begin)
                data = file.read()
            self._sent[name] = begin + len(data)
            found += [(name, begin, data)] if data else []
        return found

    def _write(self, parts: list[Part]) -> None:
        for name, begin, data in parts:
            path = self._folder / name
            try:
                with path.open("r+b" if begin else "wb") as file:
                    file.seek(begin)
                    file.write(data)
            except OSError as error:
                raise disk_error(str(path), error) from error

    def spread(self, bring: Callable[[], object]) -> None:
        """Have every other node fetch a checkpoint; HeadraceError on all ranks when one of them cannot."""
        failed = ""
        if self.leads:
            try:
                bring()
            except HeadraceError as error:
                failed = error.message
        for message in filter(None, self._ranks.gather(failed)):
            raise HeadraceError(f"a node cannot fetch the checkpoint to go on from: {message}")
