"""The order against a token-by-token oracle: I1 to I7 of its definition, and bugs planted to see them caught."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from itertools import islice
from math import gcd
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import ChangedSource, DamagedCheckpoint, InputError
from headrace.stream import order as order_module
from headrace.stream import steps as steps_module
from headrace.stream.batches import RankStream, accumulation, efficiency
from headrace.stream.lane import Cursor, Lane, expected_samples
from headrace.stream.order import (
    ORDER_VERSION,
    Unit,
    cut_line,
    default_lanes,
    exact_world_sizes,
    key,
    largest_share,
    mix,
    permutation,
)
from headrace.stream.packing import IGNORED
from headrace.stream.plan import Plan
from headrace.stream.shards import Shards
from headrace.stream.steps import merge_states
from tests.stream.oracle import Data, MemoryFeed, datasets, make_plan, plans, runs, samples, segments

BOUNDED = settings(max_examples=60, deadline=None)
EPOCHS = 400  # more than any chain below reads


def trained(stream: RankStream, steps: int) -> dict[int, list[int]]:
    """Token ids by global sample number, as they stand in the micro-batches of the next steps of one rank."""
    plan, found = stream.plan, {}
    for _ in range(steps):
        batches = [next(stream) for _ in range(stream.accumulation)]
        step = batches[0].step
        numbers = [
            g for g in range((step - 1) * plan.global_batch, step * plan.global_batch)
            if g % plan.lanes % stream.world_size == stream.rank
        ]  # fmt: skip
        rows = np.concatenate([b.input_ids for b in batches])
        for g, row in zip(numbers, rows, strict=False):
            found[g] = row.tolist()
        assert sum(b.tokens for b in batches) == len(numbers) * plan.block
    return found


def chain(data: Data, plan: Plan, links: list[tuple[int, int, int]]) -> dict[int, list[int]]:
    """Train through links of (world size, batch, steps), each a new start from the state of the one before."""
    found: dict[int, list[int]] = {}
    state: dict[str, Any] | None = None
    done = 0
    for world_size, batch, steps in links:
        streams = [
            RankStream(
                plan, Shards(data.manifest), MemoryFeed(data),
                world_size=world_size, rank=rank, batch=batch, state=state, threads=1 + rank % 3,
            )
            for rank in range(world_size)
        ]  # fmt: skip
        for stream in streams:
            found |= trained(stream, steps)
        done += steps
        state = json.loads(json.dumps(merge_states([s.state_at(done) for s in streams])))
        for stream in streams:
            stream.close()
    return found


def expected(data: Data, plan: Plan, count: int) -> dict[int, list[int]]:
    feed = MemoryFeed(data)
    lanes = [list(islice(samples(data, plan, lane, EPOCHS), count)) for lane in range(plan.lanes)]
    return {g: feed.ids(lanes[g % plan.lanes][g // plan.lanes], data) for g in range(count)}


@st.composite
def links(draw: st.DrawFn, lanes: int) -> list[tuple[int, int, int]]:
    link = st.tuples(st.integers(1, lanes), st.integers(1, 4), st.integers(1, 3))
    return draw(st.lists(link, min_size=1, max_size=4))


def agrees(data: Data, plan: Plan, steps: list[tuple[int, int, int]]) -> bool:
    found = chain(data, plan, steps)
    return found == expected(data, plan, sum(s for *_, s in steps) * plan.global_batch)


@BOUNDED
@given(st.data(), datasets(), plans())
def test_i1_any_chain_of_world_sizes_batches_and_restarts_gives_the_same_samples(
    draws: st.DataObject, data: Data, plan: Plan
) -> None:
    plan = make_plan(**{**plan.to_json(), "filters": plan.filters, "global_batch": min(plan.global_batch, 5)})
    assert agrees(data, plan, draws.draw(links(plan.lanes)))


@BOUNDED
@given(datasets(), plans(), st.integers(1, 3))
def test_i2_every_token_of_every_document_once_an_epoch_and_nothing_else(data: Data, plan: Plan, epochs: int) -> None:
    order, found = plan.orders(Shards(data.manifest))[0], Counter[tuple[int, int, int, int]]()
    for number in range(plan.lanes):
        lane = Lane(number, order, MemoryFeed(data), plan.block, epochs=epochs)
        while (sample := lane.next()) is not None:
            for span in sample.spans:
                file, group, row = place_of(data, plan, number, span)
                found.update(
                    (span.epoch, data.rows().index((file, group, row)), t, 0) for t in range(span.start, span.end)
                )
        assert lane.ended
    assert found == Counter(
        (epoch, n, t, 0)
        for epoch in range(epochs)
        for n, row in enumerate(data.rows())
        for t in range(data.tokens(row))
    )


def place_of(data: Data, plan: Plan, lane: int, span: Any) -> tuple[int, int, int]:
    """The row that a span is of, by the oracle."""
    order = plan.orders(Shards(data.manifest))[0]
    window = order.windows(span.epoch, span.segment, lane)[span.window]
    rows = [(p.file, p.row_group, r) for p in window for r in range(p.start, p.end)]
    return rows[permutation(len(rows), plan.seed, span.epoch, span.segment, lane, span.window)[span.row]]


@BOUNDED
@given(datasets(), plans(), st.integers(1, 12))
def test_i3_how_many_samples_a_lane_has_given_follows_from_the_step(data: Data, plan: Plan, steps: int) -> None:
    stream = RankStream(plan, Shards(data.manifest), MemoryFeed(data), batch=2)
    trained(stream, steps)
    for lane, cursor in stream.state_at(steps)["lanes"].items():
        given_ = sum(g % plan.lanes == int(lane) for g in range(steps * plan.global_batch))
        assert cursor[-1] == given_ == expected_samples(
            steps, int(lane), global_batch=plan.global_batch, lanes=plan.lanes
        )  # fmt: skip
    stream.close()


@BOUNDED
@given(datasets(), plans(), st.integers(0, 20))
def test_i4_a_restart_encodes_no_document_before_the_one_it_stands_in(data: Data, plan: Plan, taken: int) -> None:
    order = plan.orders(Shards(data.manifest))[0]
    lane = Lane(0, order, MemoryFeed(data), plan.block)
    for _ in range(taken):
        lane.next()
    cursor = lane.cursor
    feed = MemoryFeed(data)
    again = Lane(0, order, feed, plan.block, cursor=Cursor(*json.loads(json.dumps(cursor))))
    after = again.next()
    assert after is not None
    span = after.spans[0]
    assert (span.epoch, span.segment, span.window, span.row, span.start) == cursor[:5]
    assert feed.encoded[0] == data.rows().index(place_of(data, plan, 0, span))
    mine = lane.next()
    assert mine is not None and mine.spans == after.spans
    assert again.cursor == lane.cursor  # equal places have equal cursors


@BOUNDED
@given(st.data(), datasets(), plans())
def test_i5_the_loss_of_a_step_does_not_depend_on_how_it_was_divided(
    draws: st.DataObject, data: Data, plan: Plan
) -> None:
    def losses(world_size: int, batch: int) -> list[Fraction]:
        totals = [[0, 0] for _ in range(3)]
        for rank in range(world_size):
            stream = RankStream(
                plan, Shards(data.manifest), MemoryFeed(data), world_size=world_size, rank=rank, batch=batch
            )
            for total in totals:
                for _ in range(stream.accumulation):
                    targets = next(stream).labels[:, 1:]
                    total[0] += int(np.where(targets == IGNORED, 0, targets % 7).sum())
                    total[1] += int((targets != IGNORED).sum())
            stream.close()
        return [Fraction(a, max(b, 1)) for a, b in totals]

    other = draws.draw(st.integers(1, plan.lanes)), draws.draw(st.integers(1, 4))
    assert losses(*other) == losses(1, 1)


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_i6_filler_exactly_where_the_definition_says(lanes: int, global_batch: int, draws: st.DataObject) -> None:
    world_size, batch = draws.draw(st.integers(1, lanes)), draws.draw(st.integers(1, 5))
    plan = make_plan(lanes=lanes, global_batch=global_batch)
    steps = [range(s * global_batch, (s + 1) * global_batch) for s in range(lanes)]
    per_step = [[sum(g % lanes % world_size == r for g in step) for r in range(world_size)] for step in steps]
    most = max(map(max, per_step))
    assert most == largest_share(global_batch=global_batch, lanes=lanes, world_size=world_size)
    rows = accumulation(plan, world_size=world_size, batch=batch) * batch
    assert rows >= most > rows - batch
    without = all(n == rows for step in per_step for n in step)
    exact = gcd(lanes, global_batch) % world_size == 0 and global_batch // world_size % batch == 0
    assert without == exact and (efficiency(plan, world_size=world_size, batch=batch) == 1) == exact
    assert (world_size in exact_world_sizes(global_batch, lanes)) == (gcd(lanes, global_batch) % world_size == 0)


@BOUNDED
@given(datasets(), plans(), st.integers(0, 3))
def test_i7_windows_hold_their_limits_and_open_few_row_groups(data: Data, plan: Plan, epoch: int) -> None:
    order = plan.orders(Shards(data.manifest))[0]
    opened = 0
    for segment in range(segments(data, plan)):
        for lane in range(plan.lanes):
            pieces = [p for window in order.windows(epoch, segment, lane) for p in window]
            opened += len({p[:2] for p in pieces})
            covered = [(p.file, p.row_group, r) for p in pieces for r in range(p.start, p.end)]
            assert covered == runs(data, plan, epoch, segment)[(lane + epoch + segment) % plan.lanes]
            for window in order.windows(epoch, segment, lane):
                rows = sum(p.end - p.start for p in window)
                sizes = [
                    (p.end - p.start) * max(1, data.sizes[p.file][p.row_group]) // len(data.files[p.file][p.row_group])
                    for p in window
                ]  # fmt: skip
                assert 1 <= rows <= plan.window_rows and (rows == 1 or sum(sizes) <= plan.window_bytes)
    groups = sum(bool(rows) for f in data.files for rows in f)
    assert opened <= groups + segments(data, plan) * (plan.lanes - 1)


@given(st.integers(1, 1 << 50), st.integers(1, 1 << 40), st.integers(1, 200), st.integers(0, 1 << 40))
def test_i7_cuts_are_exact_for_numbers_that_floats_do_not_hold(size: int, rows: int, lanes: int, before: int) -> None:
    line = cut_line([Unit(0, 0, 3, before + 1), Unit(0, 1, rows, size)], lanes)
    total = before + 1 + size
    for k, (unit, row) in enumerate(line.cuts[:-1]):
        target = Fraction(k * total // lanes - (before + 1 if unit else 0))
        its_rows, its_size = ((3, before + 1), (rows, size))[unit]
        assert row == target * its_rows // its_size and 0 <= target < its_size


def test_a_lane_that_is_empty_in_one_epoch_is_not_for_ever() -> None:
    data = Data((((3,),),), ((10,),))  # one document, four lanes
    plan = make_plan(lanes=4, global_batch=4)
    stream = RankStream(plan, Shards(data.manifest), MemoryFeed(data), batch=4)
    assert len(trained(stream, 3)) == 12
    stream.close()


def test_nothing_to_train_on_is_an_error_and_no_endless_loop() -> None:
    data = Data((((0, 0), (0,)),), ((5, 5),))
    stream = RankStream(make_plan(lanes=3, global_batch=3), Shards(data.manifest), MemoryFeed(data), batch=1)
    with pytest.raises(InputError, match="no document to train on"):
        next(stream)
    with pytest.raises(InputError, match="no document to train on"):
        next(stream)
    stream.close()


def test_more_ranks_than_lanes_are_refused_naming_those_that_fit() -> None:
    with pytest.raises(InputError, match="9 ranks share 8 lanes") as found:
        accumulation(make_plan(lanes=8, global_batch=12), world_size=9, batch=1)
    assert "1, 2, 4" in found.value.remedy and "--lanes" in found.value.remedy


def test_the_default_number_of_lanes_is_as_defined() -> None:
    big = {"block": 1024, "rows": 10**8, "text_bytes": 10**12, "largest_group": 4 << 20}
    assert default_lanes(global_batch=8, **big) == 64
    assert default_lanes(global_batch=512, **big) == 128
    assert default_lanes(global_batch=8, block=256, rows=57, text_bytes=1_575_034, largest_group=200_000) == 8
    assert default_lanes(global_batch=8, block=256, rows=1, text_bytes=5_000, largest_group=5_000) == 1


def test_the_order_is_the_one_of_its_version() -> None:
    """These numbers are the promise. If one changes, earlier checkpoints give other tokens: raise ORDER_VERSION."""
    assert ORDER_VERSION == 1
    assert mix(1) == 6238072747940578789 and mix((1 << 64) - 1) == 13029008266876403067
    assert key(1, 2, 3) == 15378950933529109311 and key(3, 2, 1) == 13350340359143234006
    assert permutation(10, 42, 0).tolist() == [6, 2, 7, 9, 8, 3, 5, 4, 1, 0]
    assert permutation(6, 1, 2, 3, 4, 5).tolist() == [4, 0, 3, 1, 2, 5]


# Each is a bug that was once made, or nearly.

RICH = Data(
    tuple(tuple(tuple((f + 2 * g + 3 * r) % 7 for r in range(5)) for g in range(3)) for f in range(4)),
    tuple(tuple(10 + 7 * g + f for g in range(3)) for f in range(4)),
)
PLAN = make_plan(seed=3, block=5, lanes=4, global_batch=6, window_rows=3, window_bytes=25, segment_files=3)
CHAIN = [(2, 2, 3), (3, 1, 4), (1, 4, 3), (4, 2, 2)]


def test_without_a_planted_bug_the_oracle_agrees() -> None:
    assert agrees(RICH, PLAN, CHAIN)


def forget_token(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = vars(Lane)["cursor"].fget
    monkeypatch.setattr(Lane, "cursor", property(lambda self: whole(self)._replace(token=0)))


def contiguous_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    def share(step: int, *, global_batch: int, lanes: int, world_size: int, rank: int) -> list[int]:
        numbers = range((step - 1) * global_batch, step * global_batch)
        mine = set(range(rank, lanes, world_size))
        block = list(numbers)[rank * global_batch // world_size : (rank + 1) * global_batch // world_size]
        return [g for g in block if g % lanes in mine] or [g for g in numbers if g % lanes in mine][:1]

    monkeypatch.setattr(steps_module, "share", share)


def batch_modulo(monkeypatch: pytest.MonkeyPatch) -> None:
    real = order_module.share
    monkeypatch.setattr(steps_module, "share", lambda step, **how: sorted(real(1, **how)))


def lose_last_token_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    real = MemoryFeed.encode

    def encode(self: MemoryFeed, numbers: Any) -> Any:
        found = real(self, numbers)
        ends = found.ends.copy()
        if len(ends) and ends[-1] > (ends[-2] if len(ends) > 1 else 0) + 1:
            ends[-1] -= 1
        return found._replace(ids=found.ids[: ends[-1] if len(ends) else 0], ends=ends)

    monkeypatch.setattr(MemoryFeed, "encode", encode)


def accumulate_by_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_only(*, global_batch: int, lanes: int, world_size: int) -> int:
        return max(sum(g % lanes % world_size == r for g in range(global_batch)) for r in range(world_size)) - 1 or 1

    monkeypatch.setattr("headrace.stream.batches.largest_share", first_only)


def lose_short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    real = order_module.cut_windows

    def cut(*how: Any) -> Any:
        return tuple(w for w in real(*how) if sum(p.end - p.start for p in w) > 1)

    monkeypatch.setattr(order_module, "cut_windows", cut)


def no_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    real = order_module.Order._windows
    monkeypatch.setattr(
        order_module.Order, "_windows", lambda self, e, s, lane: real(self, e, s, (lane - e - s) % self.lanes)
    )


@pytest.mark.parametrize(
    "plant",
    [
        forget_token, contiguous_ranks, batch_modulo, lose_last_token_of_a_chunk, accumulate_by_one_step,
        lose_short_windows, no_rotation,
    ],
)  # fmt: skip
def test_a_planted_bug_is_caught(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    try:
        caught = not agrees(RICH, PLAN, CHAIN)
    except (AssertionError, ChangedSource, DamagedCheckpoint):
        # A sample too few, a document that is shorter than its cursor, a wrong checksum; others are the plant's own.
        caught = True
    assert caught
