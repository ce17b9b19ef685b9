"""The samples of each optimizer step that one rank trains, in order, and the cursors behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

from headrace.errors import DamagedCheckpoint
from headrace.stream.lane import START, Cursor, Sample, Tally, expected_samples
from headrace.stream.mixture import Cursors, in_proportion, open_lane
from headrace.stream.order import share
from headrace.stream.plan import Plan
from headrace.stream.shards import Shards
from headrace.stream.windows import Feed


class Numbered(NamedTuple):
    """A sample by its global number; None where its lane had ended."""

    number: int
    sample: Sample | None


class Threads(NamedTuple):
    """Who reads windows ahead, `depth` of them a lane, and who encodes a chunk ahead, if anyone does."""

    readers: Executor
    encoders: Executor | None
    depth: int = 1


class StepReader:
    """Reads the lanes of one rank, step by step. `state` is the whole run's, from `merge_states`."""

    def __init__(
        self,
        plan: Plan,
        shards: Shards,
        feed: Feed,
        *,
        world_size: int = 1,
        rank: int = 0,
        epochs: int | None = None,
        state: Mapping[str, Any] | None = None,
        threads: Threads | None = None,
    ) -> None:
        self.plan, self.orders = plan, plan.orders(shards)
        self.step = int(state["step"]) if state else 0
        """The last step that was read."""
        self._world_size, self._rank, self._finite = world_size, rank, epochs is not None
        self._coming: list[int] = []
        self.dropped = Tally()
        self._cursors = _cursors(plan, state)
        how: dict[str, Any] = {
            "dropped": self.dropped,
            "epochs": epochs,
            "grouped": plan.grouped,
            **(threads._asdict() if threads else {}),
        }
        self._cursors = {lane: self._cursors[lane] for lane in range(rank, plan.lanes, world_size)}
        self._lanes = {
            lane: open_lane(plan, self.orders, feed, lane, cursors, **how) for lane, cursors in self._cursors.items()
        }

    @property
    def cursors(self) -> dict[int, Cursors]:
        """Where each of this rank's lanes stands after `step`."""
        return dict(self._cursors)

    @property
    def ended(self) -> bool:
        """Whether no lane of this rank has a token left; only with `epochs`."""
        return self._finite and all(lane.ended for lane in self._lanes.values())

    def next_step(self) -> list[Numbered]:
        """The samples of the next step, by ascending number."""
        lanes, v = self._lanes, self.plan.lanes
        numbers = self._coming or self._numbers(self.step + 1)
        self._coming = self._numbers(self.step + 2)
        for g in self._coming:
            lanes[g % v].ahead()
        samples = [Numbered(g, lanes[g % v].next()) for g in numbers]
        for g in numbers[-v:]:  # the other lanes stand where they stood
            self._cursors[g % v] = lanes[g % v].cursors
        self.step += 1
        return samples

    def _numbers(self, step: int) -> list[int]:
        return share(
            step, global_batch=self.plan.global_batch, lanes=self.plan.lanes,
            world_size=self._world_size, rank=self._rank,
        )  # fmt: skip


def as_state(step: int, cursors: Mapping[int, Cursors]) -> dict[str, Any]:
    """A rank's part of the data state after a step, as JSON: a cursor a lane, or one a source of it."""
    return {
        "step": step,
        "lanes": {str(lane): list(c[0]) if len(c) == 1 else [list(one) for one in c] for lane, c in cursors.items()},
    }


def _cursors(plan: Plan, state: Mapping[str, Any] | None) -> dict[int, Cursors]:
    """Cursors of every lane; DamagedCheckpoint where they cannot be those of this plan after that step."""
    sources = max(1, len(plan.mixture))
    if state is None:
        return dict.fromkeys(range(plan.lanes), (START,) * sources)
    cursors = {
        int(lane): tuple(Cursor(*c) for c in (place if plan.mixture else [place]))
        for lane, place in state["lanes"].items()
    }
    if sorted(cursors) != list(range(plan.lanes)):
        raise DamagedCheckpoint(
            f"the data state holds {len(cursors)} lanes; the plan has {plan.lanes}", "use another checkpoint"
        )
    for lane, found in cursors.items():
        expected = expected_samples(int(state["step"]), lane, global_batch=plan.global_batch, lanes=plan.lanes)
        taken = [c.samples for c in found]
        if len(found) != sources or sum(taken) != expected or not in_proportion(taken, plan.mixture):
            raise DamagedCheckpoint(
                f"lane {lane} stands at sample {' + '.join(map(str, taken))}; after step {state['step']} it must be "
                f"{expected}",
                "use another checkpoint",
            )
    return cursors


def merge_states(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One state from all ranks' parts; DamagedCheckpoint unless they are of one step and share no lane."""
    steps = {int(s["step"]) for s in states}
    if len(steps) != 1:
        raise DamagedCheckpoint(f"the ranks' data states are of the steps {sorted(steps)}", "use another checkpoint")
    lanes: dict[str, list[Any]] = {}
    for state in states:
        for lane, cursor in state["lanes"].items():
            if lane in lanes:
                raise DamagedCheckpoint(f"two ranks hold lane {lane}", "use another checkpoint")
            lanes[lane] = list(cursor)
    return {"step": steps.pop(), "lanes": {k: lanes[k] for k in sorted(lanes, key=int)}}
