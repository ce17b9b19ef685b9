"""Mixtures: each sample of a lane is from one source, chosen so that every lane keeps to the weights all the time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from headrace.stream.lane import Cursor, Lane, Sample
from headrace.stream.order import GOLDEN, MASK, Order, key
from headrace.stream.plan import Plan
from headrace.stream.windows import Feed

Cursors = tuple[Cursor, ...]
"""Where a lane stands in each of its sources."""
_MIXTURE = 0x6D69787475726500
DRIFT = 4
"""By so many samples at most is a lane ahead of a source's weight or behind it (I8)."""


def source_of(number: int, *, seed: int, lane: int, lanes: int, weights: Sequence[int]) -> int:
    """The source of sample `number` of a lane: a Weyl sequence, begun elsewhere for each lane, against the weights.

    The golden ratio's multiples fill the unit interval evenly at every length (Knuth, TAOCP 3, 6.4, theorem S); a rule
    with a period in the global number would leave lanes that never see a source.
    """
    place = (key(seed, _MIXTURE) + lane * ((1 << 64) // lanes) + number * GOLDEN) & MASK
    return bisect_right(list(accumulate(weights)), place * sum(weights) >> 64)


def in_proportion(taken: Sequence[int], weights: Sequence[int]) -> bool:
    """Whether so many samples of each source can be what the rule gives."""
    total = sum(weights)
    return all(abs(n * total - w * sum(taken)) <= DRIFT * total for n, w in zip(taken, weights, strict=False))


class MixedLane:
    """A lane of several sources, each of which is a lane of its own."""

    def __init__(self, lane: int, sources: Sequence[Lane], plan: Plan, cursors: Cursors) -> None:
        self._lane, self._sources, self._plan = lane, sources, plan
        self._cursors = list(cursors)
        self._samples = sum(c.samples for c in cursors)

    def ahead(self) -> None:
        """Begin to read what the next sample is from."""
        self._sources[self._source()].ahead()

    @property
    def ended(self) -> bool:
        """Never: its sources have no epoch in common."""
        return False

    @property
    def cursors(self) -> Cursors:
        """Where it stands in each source; one that was not read from stands where it stood."""
        return tuple(self._cursors)

    def next(self) -> Sample | None:
        """The next sample."""
        source = self._source()
        self._samples += 1
        sample = self._sources[source].next()
        if sample is not None:
            sample.source = source
        self._cursors[source] = self._sources[source].cursor
        return sample

    def _source(self) -> int:
        plan = self._plan
        return source_of(self._samples, seed=plan.seed, lane=self._lane, lanes=plan.lanes, weights=plan.mixture)


def open_lane(
    plan: Plan, orders: Sequence[Order], feed: Feed, lane: int, cursors: Cursors, **how: Any
) -> Lane | MixedLane:
    """A lane from its cursors on; `how` goes on to `Lane`."""
    lanes = [
        Lane(lane, order, feed, plan.block, cursor=cursor, **how) for order, cursor in zip(orders, cursors, strict=True)
    ]
    return MixedLane(lane, lanes, plan, cursors) if plan.mixture else lanes[0]
