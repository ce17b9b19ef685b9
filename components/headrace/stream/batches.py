"""The micro-batches of one rank: which samples, in which rows, and the state behind every step."""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import DamagedCheckpoint, InputError
from headrace.stream.lane import Cursor, Feed, Lane, Sample, expected_samples
from headrace.stream.manifest import Manifest
from headrace.stream.order import exact_world_sizes, largest_share, share
from headrace.stream.packing import place
from headrace.stream.plan import Plan

_NOTHING = np.empty(0, np.int32)
STATES_KEPT = 1_024
"""Steps whose state is remembered: more than any reader is ahead of the optimizer."""


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


class RankStream:
    """Micro-batches of one rank without end, made ahead in a thread; `accumulation` of them make a step.

    `state` is the whole run's, from `merge_states`; its lanes are divided anew, so the world size may differ.
    """

    def __init__(
        self,
        plan: Plan,
        manifest: Manifest,
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
        self.accumulation = accumulation(plan, world_size=world_size, batch=batch)
        self.efficiency = efficiency(plan, world_size=world_size, batch=batch)
        self.step = int(state["step"]) if state else 0
        cursors = _cursors(plan, state)
        self._pool = ThreadPoolExecutor(max(1, threads), thread_name_prefix="headrace-encode")
        order = plan.order(manifest)
        self._lanes = {
            lane: Lane(
                lane, order, feed, plan.block,
                cursor=cursors.get(lane), epochs=epochs, grouped=plan.grouped, pool=self._pool,
            )
            for lane in range(rank, plan.lanes, world_size)
        }  # fmt: skip
        self._finite = epochs is not None
        self._cursors = {str(lane): list(cursors.get(lane) or Cursor(0, 0, 0, 0, 0, 0)) for lane in self._lanes}
        self._states: OrderedDict[int, dict[str, list[int]]] = OrderedDict({self.step: dict(self._cursors)})
        self._made: queue.Queue[MicroBatch | BaseException] = queue.Queue(max(2, min(64, 2 * self.accumulation)))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

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
        if step not in self._states:
            raise KeyError(f"step {step} is not among the {len(self._states)} steps remembered")
        return {"step": step, "lanes": self._states[step]}

    def close(self) -> None:
        """Stop the threads; what was made ahead is thrown away."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _produce(self) -> None:
        try:
            while not self._stop.is_set():
                self._produce_step(self.step + 1)
        except BaseException as error:  # raised again in the reader's thread
            self._put(error)

    def _produce_step(self, step: int) -> None:
        numbers = share(
            step, global_batch=self.plan.global_batch, lanes=self.plan.lanes,
            world_size=self.world_size, rank=self.rank,
        )  # fmt: skip
        samples = [self._lanes[g % self.plan.lanes].next() for g in numbers]
        ended = self._finite and all(lane.ended for lane in self._lanes.values())
        for n in {g % self.plan.lanes for g in numbers}:  # the others stand where they stood
            self._cursors[str(n)] = list(self._lanes[n].cursor)
        self._states[step] = dict(self._cursors)
        while len(self._states) > STATES_KEPT:
            self._states.popitem(last=False)
        self.step = step
        for a in range(self.accumulation):
            self._put(self._batch(step, samples[a * self.batch : (a + 1) * self.batch], ended))

    def _batch(self, step: int, samples: Sequence[Sample | None], ended: bool) -> MicroBatch:
        shape = (self.batch, self.plan.block)
        arrays = np.empty(shape, np.int64), np.empty(shape, np.int64), np.empty(shape, np.int64)
        rows = [*samples, *(None,) * (self.batch - len(samples))]
        for row, sample in enumerate(rows):
            ids, starts = (_NOTHING, ()) if sample is None else (sample.ids, sample.starts)
            place(ids, starts, self.plan.eos_id, *(a[row] for a in arrays))
        return MicroBatch(*arrays, step, sum(len(s.ids) for s in samples if s), ended)

    def _put(self, item: MicroBatch | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._made.put(item, timeout=0.1)
                return
            except queue.Full:
                continue


def _cursors(plan: Plan, state: Mapping[str, Any] | None) -> dict[int, Cursor]:
    if state is None:
        return {}
    cursors = {int(lane): Cursor(*place) for lane, place in state["lanes"].items()}
    if sorted(cursors) != list(range(plan.lanes)):
        raise DamagedCheckpoint(
            f"the data state holds {len(cursors)} lanes; the plan has {plan.lanes}", "use another checkpoint"
        )
    for lane, cursor in cursors.items():
        expected = expected_samples(int(state["step"]), lane, global_batch=plan.global_batch, lanes=plan.lanes)
        if cursor.samples != expected:
            raise DamagedCheckpoint(
                f"lane {lane} stands at sample {cursor.samples}; after step {state['step']} it must be {expected}",
                "use another checkpoint",
            )
    return cursors


def merge_states(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One state from all ranks' parts; DamagedCheckpoint unless they are of one step and share no lane."""
    steps = {int(s["step"]) for s in states}
    if len(steps) != 1:
        raise DamagedCheckpoint(f"the ranks' data states are of the steps {sorted(steps)}", "use another checkpoint")
    lanes: dict[str, list[int]] = {}
    for state in states:
        for lane, cursor in state["lanes"].items():
            if lane in lanes:
                raise DamagedCheckpoint(f"two ranks hold lane {lane}", "use another checkpoint")
            lanes[lane] = list(cursor)
    return {"step": steps.pop(), "lanes": {k: lanes[k] for k in sorted(lanes, key=int)}}
