"""The samples of each optimizer step that one rank trains, in order, and the cursors behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

from headrace.errors import DamagedCheckpoint
from headrace.stream.lane import Cursor, Feed, Lane, Sample, expected_samples
from headrace.stream.manifest import Manifest
from headrace.stream.order import share
from headrace.stream.plan import Plan


class Numbered(NamedTuple):
    """A sample by its global number; None where its lane had ended."""

    number: int
    sample: Sample | None


class StepReader:
    """Reads the lanes of one rank, step by step. `state` is the whole run's, from `merge_states`."""

    def __init__(
        self,
        plan: Plan,
        manifest: Manifest,
        feed: Feed,
        *,
        world_size: int = 1,
        rank: int = 0,
        epochs: int | None = None,
        state: Mapping[str, Any] | None = None,
        pool: Executor | None = None,
    ) -> None:
        self.plan, self.order = plan, plan.order(manifest)
        self.step = int(state["step"]) if state else 0
        """The last step that was read."""
        self._world_size, self._rank, self._finite = world_size, rank, epochs is not None
        cursors = _cursors(plan, state)
        self._lanes = {
            lane: Lane(
                lane, self.order, feed, plan.block,
                cursor=cursors.get(lane), epochs=epochs, grouped=plan.grouped, pool=pool,
            )
            for lane in range(rank, plan.lanes, world_size)
        }  # fmt: skip
        self._cursors = {str(lane): list(cursors.get(lane) or Cursor(0, 0, 0, 0, 0, 0)) for lane in self._lanes}

    @property
    def state(self) -> dict[str, Any]:
        """Where this rank's lanes stand after `step`."""
        return {"step": self.step, "lanes": dict(self._cursors)}

    @property
    def ended(self) -> bool:
        """Whether no lane of this rank has a token left; only with `epochs`."""
        return self._finite and all(lane.ended for lane in self._lanes.values())

    def next_step(self) -> list[Numbered]:
        """The samples of the next step, by ascending number."""
        numbers = share(
            self.step + 1, global_batch=self.plan.global_batch, lanes=self.plan.lanes,
            world_size=self._world_size, rank=self._rank,
        )  # fmt: skip
        samples = [Numbered(g, self._lanes[g % self.plan.lanes].next()) for g in numbers]
        for lane in {g % self.plan.lanes for g in numbers}:  # the others stand where they stood
            self._cursors[str(lane)] = list(self._lanes[lane].cursor)
        self.step += 1
        return samples


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
