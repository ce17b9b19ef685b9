"""The micro-batches of one rank: which samples, in which rows, and the state behind every step."""

from __future__ import annotations

import os
import queue
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.stream.digest import step_digest
from headrace.stream.files import is_remote
from headrace.stream.lane import Sample
from headrace.stream.mixture import Cursors
from headrace.stream.order import Order, exact_world_sizes, largest_share
from headrace.stream.packing import place
from headrace.stream.plan import Plan
from headrace.stream.shards import Shards
from headrace.stream.steps import StepReader, Threads, as_state
from headrace.stream.windows import Feed

_NOTHING = np.empty(0, np.int32)
_NO_STARTS: list[int] = []
READERS, READERS_HERE = 16, 4
"""Threads that read a remote source, for which they wait most of the time, and files of this machine."""
READ_AHEAD_BYTES = 128 << 20
"""Text that a rank's lanes hold ahead of need together, where that is more than a window each."""
MOST_WINDOWS_AHEAD = 8
MADE_AHEAD_BYTES = 16 << 20
"""Micro-batches that wait for the optimizer; two at least, 64 at most."""
STEPS_REMEMBERED = 1_024
"""Steps whose state is remembered: more than the stream is ever ahead of the optimizer."""


@dataclass(frozen=True)
class MicroBatch:
    """Rows of one rank. input_ids, labels, position_ids: int64 [b, L]; filler rows hold EOS and ignored labels."""

    input_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    step: int
    """The optimizer step, from 1, that trains it."""
    tokens: int
    """Tokens that are no filler."""
    ended: bool
    """Whether this rank's lanes have no token left after this step."""


def accumulation(plan: Plan, *, world_size: int, batch: int) -> int:
    """Micro-batches of `batch` rows that every rank runs a step; InputError when there are more ranks than lanes."""
    if world_size > plan.lanes:
        exact = ", ".join(map(str, exact_world_sizes(plan.global_batch, plan.lanes)))
        raise InputError(
            f"{world_size} ranks share {plan.lanes} lanes; expected at most one rank a lane",
            f"use at most {plan.lanes} ranks (no filler with {exact}), or start a run with more --lanes",
        )
    most = largest_share(global_batch=plan.global_batch, lanes=plan.lanes, world_size=world_size)
    return -(-most // batch)


def efficiency(plan: Plan, *, world_size: int, batch: int) -> float:
    """Share of rows that are no filler: GB / (W·A·b)."""
    return plan.global_batch / (world_size * batch * accumulation(plan, world_size=world_size, batch=batch))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_ahead(plan: Plan, *, world_size: int) -> int:
    """Windows that each lane of a rank reads ahead."""
    lanes = -(-plan.lanes // world_size)
    return max(1, min(MOST_WINDOWS_AHEAD, READ_AHEAD_BYTES // (lanes * plan.window_bytes)))


class Trained(NamedTuple):
    """What a step trained on this rank. digest: its part of the step's, see `ledger`."""

    cursors: dict[int, Cursors]
    digest: int


class RankStream:
    """Micro-batches of one rank without end, made ahead in a thread; `accumulation` of them make a step.

    `state` is the whole run's, from `merge_states`; its lanes are divided anew, so the world size may differ.
    """

    def __init__(
        self,
        plan: Plan,
        shards: Shards,
        feed: Feed,
        *,
        world_size: int = 1,
        rank: int = 0,
        batch: int,
        epochs: int | None = None,
        state: Mapping[str, Any] | None = None,
        threads: int = 1,
    ) -> None:
        self.plan, self.world_size, self.rank, self.batch = plan, world_size, rank, batch
        self._shards = shards
        self.accumulation = accumulation(plan, world_size=world_size, batch=batch)
        self.efficiency = efficiency(plan, world_size=world_size, batch=batch)
        remote = any(is_remote(f.uri) for f in shards.manifest.files)
        self._threads = Threads(
            readers=ThreadPoolExecutor(READERS if remote else READERS_HERE, thread_name_prefix="headrace-read"),
            # On a single core another thread would only take turns with the one that needs its work.
            encoders=ThreadPoolExecutor(max(1, threads), thread_name_prefix="headrace-encode") if cores() > 1 else None,
            depth=read_ahead(plan, world_size=world_size),
        )
        self._reader = StepReader(
            plan, shards, feed, world_size=world_size, rank=rank, epochs=epochs, state=state, threads=self._threads
        )
        self._trained: OrderedDict[int, Trained] = OrderedDict()
        self._remember(0)
        size = 3 * 8 * batch * plan.block
        self._ahead = max(2, min(64, MADE_AHEAD_BYTES // size))
        self._made: queue.Queue[MicroBatch | BaseException] = queue.Queue(self._ahead)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def orders(self) -> tuple[Order, ...]:
        """The order of each source."""
        return self._reader.orders

    def __iter__(self) -> Iterator[MicroBatch]:
        return self

    def __next__(self) -> MicroBatch:
        if self._thread is None:
            self._thread = threading.Thread(target=self._produce, name="headrace-stream", daemon=True)
            self._thread.start()
        item = self._made.get()
        if isinstance(item, BaseException):
            self._made.put(item)  # whoever asks again gets the same answer
            raise item
        return item

    def state_at(self, step: int) -> dict[str, Any]:
        """This rank's part of the state after an optimizer step, whatever was made ahead."""
        return as_state(step, self._at(step).cursors)

    def digest_at(self, step: int) -> int:
        """This rank's part of the digest of an optimizer step."""
        return self._at(step).digest

    def dropped(self) -> dict[str, int]:
        """Rows that were passed over since this start, by the reason."""
        return self._reader.dropped.counts()

    def close(self) -> None:
        """Stop the threads; what was made ahead is thrown away."""
        self._stop.set()
        self._shards.close()
        if self._thread is not None:
            self._thread.join()
        for pool in (self._threads.encoders, self._threads.readers):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)

    def _at(self, step: int) -> Trained:
        if step not in self._trained:
            raise KeyError(f"step {step} is not among the {len(self._trained)} steps remembered")
        return self._trained[step]

    def _remember(self, digest: int) -> None:
        self._trained[self._reader.step] = Trained(self._reader.cursors, digest)
        while len(self._trained) > STEPS_REMEMBERED:
            self._trained.popitem(last=False)

    def _produce(self) -> None:
        try:
            while not self._stop.is_set():
                self._produce_step()
        except BaseException as error:  # raised again in the reader's thread
            self._put(error)

    def _produce_step(self) -> None:
        found = self._reader.next_step()
        self._remember(step_digest((g, s.ids) for g, s in found if s is not None))
        samples, ended = [s for _, s in found], self._reader.ended
        for a in range(self.accumulation):
            self._put(self._batch(samples[a * self.batch : (a + 1) * self.batch], ended))

    def _batch(self, samples: Sequence[Sample | None], ended: bool) -> MicroBatch:
        there = [(_NOTHING, _NO_STARTS) if s is None else (s.ids, s.starts) for s in samples]
        rows = place(there, self.batch, self.plan.block, self.plan.eos_id)
        return MicroBatch(*rows, self._reader.step, sum(len(ids) for ids, _ in there), ended)

    def _put(self, item: MicroBatch | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._made.put(item, timeout=0.1)
                return
            except queue.Full:
                continue
