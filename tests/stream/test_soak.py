"""The data plane killed a thousand times, and gone on with on another number of processes each time."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headrace.stream import documents
from headrace.stream.batches import RankStream
from headrace.stream.digest import sample_digest
from headrace.stream.documents import Reader
from headrace.stream.feed import TextFeed
from headrace.stream.manifest import Manifest
from headrace.stream.order import share
from headrace.stream.plan import Plan
from headrace.stream.source import resolve
from headrace.stream.steps import StepReader, merge_states
from headrace.stream.survey import build, listed
from headrace.stream.tokenizer import Encoder
from tests.stream.conftest import PYDOCS
from tests.stream.oracle import make_plan

COMMIT_EVERY = 3
SHARDS = sorted((PYDOCS / "data").glob("*.parquet"))


@dataclass(frozen=True)
class Scene:
    """What is streamed, and what stays the same through all attempts."""

    plan: Plan
    manifest: Manifest
    encoder: Encoder
    folder: Path

    def feed(self) -> tuple[Reader, TextFeed]:
        reader = Reader(self.manifest, scratch=self.folder / "scratch")
        return reader, TextFeed(reader, self.encoder)


def work(scene: Scene, attempt: int, world_size: int, rank: int, batch: int, state: dict[str, Any] | None) -> None:
    """A rank: notes each sample that it was given, and its state now and then, until it is killed."""
    reader, feed = scene.feed()
    plan = scene.plan
    stream = RankStream(
        plan, reader.shards, feed, world_size=world_size, rank=rank, batch=batch, state=state, threads=1 + attempt % 3
    )
    step = state["step"] if state else 0
    with (scene.folder / f"{attempt}-{rank}.log").open("w", buffering=1) as log:
        while True:
            step += 1
            rows = [row for _ in range(stream.accumulation) for row in next(stream).input_ids]
            numbers = share(step, global_batch=plan.global_batch, lanes=plan.lanes, world_size=world_size, rank=rank)
            for g, row in zip(numbers, rows, strict=False):
                log.write(f"{step} {g} {sample_digest(g, row.astype('<i4'))}\n")
            if step % COMMIT_EVERY == 0:
                path = scene.folder / f"{attempt}-{rank}-{step}.state"
                path.with_suffix(".tmp").write_text(json.dumps(stream.state_at(step)))
                path.with_suffix(".tmp").rename(path)


def attempt(scene: Scene, number: int, draw: random.Random, state: dict[str, Any] | None) -> tuple[Any, list[Any]]:
    """Start some ranks, kill them all, and return what they committed together and trained up to there."""
    world_size = draw.randint(1, min(6, scene.plan.lanes))
    batch = draw.randint(1, 5)
    forked = multiprocessing.get_context("fork")
    ranks = [forked.Process(target=work, args=(scene, number, world_size, r, batch, state)) for r in range(world_size)]
    for process in ranks:
        process.start()
    time.sleep(draw.uniform(0.0, 0.6))
    for process in draw.sample(ranks, len(ranks)):
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    for process in ranks:
        process.join()
        assert process.exitcode == -signal.SIGKILL, "a rank ended by itself"
    before = state["step"] if state else 0
    steps = Counter(int(p.stem.split("-")[2]) for p in scene.folder.glob(f"{number}-*.state"))
    whole = max((s for s, n in steps.items() if n == world_size), default=before)
    if whole > before:
        parts = [scene.folder / f"{number}-{r}-{whole}.state" for r in range(world_size)]
        state = merge_states([json.loads(p.read_text()) for p in parts])
    trained = []
    for path in scene.folder.glob(f"{number}-*.log"):
        lines = path.read_text().split("\n")[:-1]
        trained += [(g, d) for step, g, d in (map(int, line.split()) for line in lines) if before < step <= whole]
    for path in scene.folder.glob(f"{number}-*"):
        path.unlink()
    return state, trained


def scene_of(name: str, folder: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> Scene:
    sources = [(resolve(str(PYDOCS)), "text", 1)]
    changed: dict[str, Any] = {"lanes": 13, "global_batch": 11}
    if name == "mixture":
        sources = [(resolve(str(s)), "text", w) for s, w in zip(SHARDS[:3], (5, 2, 1), strict=True)]
        changed |= {"mixture": (5, 2, 1)}
    if name == "large row groups":
        monkeypatch.setattr(documents, "WHOLE_BYTES", 10_000)
        monkeypatch.setattr(documents, "STREAMED_BYTES", 8_000)
    plan = make_plan(block=64, window_rows=5, segment_files=2, eos_id=encoder.eos_id, **changed)
    return Scene(plan, build(listed(sources)), encoder, folder)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "kills"), [("plain", 400), ("mixture", 300), ("large row groups", 300)])
def test_nothing_is_lost_and_nothing_repeated(
    name: str, kills: int, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of(name, tmp_path, encoder, monkeypatch)
    draw = random.Random(name)
    state: dict[str, Any] | None = None
    trained: list[tuple[int, int]] = []
    for number in range(kills):
        state, found = attempt(scene, number, draw, state)
        trained += found
    assert state is not None
    counts = Counter(g for g, _ in trained)
    last = state["step"] * scene.plan.global_batch
    lost, repeated = last - len(counts), sum(n - 1 for n in counts.values())
    epoch = max(c[0] if scene.plan.mixture == () else c[0][0] for c in state["lanes"].values())
    print(f"{name}: {kills} kills, {state['step']} steps, epoch {epoch}, {lost} lost, {repeated} repeated")
    assert (lost, repeated) == (0, 0) and set(counts) == set(range(last)) and state["step"] > kills // 2
    reader, feed = scene.feed()
    quiet = StepReader(scene.plan, reader.shards, feed)
    expected = {g: sample_digest(g, s.ids) for _ in range(state["step"]) for g, s in quiet.next_step() if s is not None}
    assert dict(trained) == expected
