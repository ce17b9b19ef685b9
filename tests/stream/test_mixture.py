"""Mixtures: I8 of the order's definition, and the same samples on any number of ranks and through restarts."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import DamagedCheckpoint
from headrace.stream import mixture as mixture_module
from headrace.stream.batches import RankStream
from headrace.stream.manifest import Manifest
from headrace.stream.mixture import source_of
from headrace.stream.order import key
from headrace.stream.plan import Plan
from headrace.stream.shards import Shards
from headrace.stream.steps import StepReader, as_state, merge_states
from tests.stream.oracle import Data, MemoryFeed, datasets, make_plan, samples

WEIGHTS = st.lists(st.integers(1, 1_000), min_size=2, max_size=5)


@settings(deadline=None)
@given(WEIGHTS, st.integers(0, 1 << 40), st.integers(1, 300), st.integers(0, 299), st.integers(1, 3_000))
def test_i8_every_lane_keeps_to_the_weights_at_every_length(
    weights: list[int], seed: int, lanes: int, lane: int, length: int
) -> None:
    counts: Counter[int] = Counter()
    for j in range(length):
        counts[source_of(j, seed=seed, lane=lane % lanes, lanes=lanes, weights=weights)] += 1
        for source, weight in enumerate(weights):
            assert abs(counts[source] - Fraction(weight, sum(weights)) * (j + 1)) <= 4


def both(one: Data, two: Data) -> Data:
    return Data(one.files + two.files, one.sizes + two.sizes)


def two_parts(one: Data, two: Data) -> Manifest:
    return Manifest((*one.manifest.parts, *two.manifest.parts))


def expected(one: Data, two: Data, plan: Plan, count: int) -> list[list[int]]:
    """By the oracle of each source alone: the second's seed is its own, its rows are numbered behind the first's."""
    feeds = MemoryFeed(one), MemoryFeed(two)
    plans = plan, make_plan(**{**plan.to_json(), "filters": ("blank",), "mixture": (), "seed": key(plan.seed, 1)})
    found = []
    streams: dict[tuple[int, int], Any] = {}
    for g in range(count):
        lane = g % plan.lanes
        how = {"seed": plan.seed, "lane": lane, "lanes": plan.lanes, "weights": plan.mixture}
        source = source_of(g // plan.lanes, **how)  # type: ignore[arg-type]
        data = (one, two)[source]
        if (lane, source) not in streams:
            streams[lane, source] = samples(data, plans[source], lane, 400)
        (places,) = islice(streams[lane, source], 1)
        shift = 1000 * len(one.rows()) * source
        ids = feeds[source].ids(places, data)
        found.append([i if i == plan.eos_id else i + shift for i in ids])
    return found


@settings(max_examples=40, deadline=None)
@given(
    datasets(), datasets(), st.lists(st.integers(1, 9), min_size=2, max_size=2),
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=3), st.integers(0, 99),
)  # fmt: skip
def test_i1_and_i2_any_chain_of_restarts_gives_the_oracles_samples(
    one: Data, two: Data, weights: list[int], chain: list[tuple[int, int]], seed: int
) -> None:
    plan = make_plan(
        seed=seed, lanes=4, global_batch=6, block=5, window_rows=3, segment_files=2, mixture=tuple(weights)
    )
    state: dict[str, Any] | None = None
    found: dict[int, list[int]] = {}
    done = 0
    for world_size, steps in chain:
        shards, parts = Shards(two_parts(one, two)), []
        for rank in range(world_size):
            feed = MemoryFeed(both(one, two))
            reader = StepReader(plan, shards, feed, world_size=world_size, rank=rank, state=state)
            for _ in range(steps):
                found |= {g: s.ids.tolist() for g, s in reader.next_step() if s is not None}
            parts.append(as_state(reader.step, reader.cursors))
        state = json.loads(json.dumps(merge_states(parts)))
        done += steps
    assert [found[g] for g in range(6 * done)] == expected(one, two, plan, 6 * done)


RICH = Data(tuple(tuple((3, 5, 2, 7) for _ in range(3)) for _ in range(3)), ((40, 50, 60),) * 3)
PLAN = make_plan(lanes=4, global_batch=4, block=5, mixture=(3, 1))


def test_a_state_that_this_mixture_cannot_have_is_refused() -> None:
    stream = RankStream(PLAN, Shards(two_parts(RICH, RICH)), MemoryFeed(both(RICH, RICH)), batch=4)
    for _ in range(40):
        next(stream)
    state = stream.state_at(40)
    stream.close()
    assert sum(c[-1] for c in state["lanes"]["0"]) == 40
    state["lanes"]["0"][0][-1] -= 12
    state["lanes"]["0"][1][-1] += 12
    with pytest.raises(DamagedCheckpoint, match="lane 0 stands at sample"):
        StepReader(PLAN, Shards(two_parts(RICH, RICH)), MemoryFeed(both(RICH, RICH)), state=state)


def test_a_rule_with_a_period_in_the_global_number_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug that order.md warns of: with as many lanes as the period, lanes never see a source."""

    def periodic(number: int, *, seed: int, lane: int, lanes: int, weights: Any) -> int:
        return int((number * lanes + lane) % sum(weights) >= weights[0])

    counts = Counter(periodic(j, seed=0, lane=3, lanes=4, weights=(3, 1)) for j in range(100))
    assert counts == {1: 100}
    monkeypatch.setattr(mixture_module, "source_of", periodic)
    reader = StepReader(PLAN, Shards(two_parts(RICH, RICH)), MemoryFeed(both(RICH, RICH)))
    for _ in range(40):
        reader.next_step()
    with pytest.raises(DamagedCheckpoint):
        StepReader(
            PLAN, Shards(two_parts(RICH, RICH)), MemoryFeed(both(RICH, RICH)), state=as_state(40, reader.cursors)
        )
