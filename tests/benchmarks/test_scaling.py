"""The model of `benchmarks/scaling_reads.py` against what real ranks ask of a real server."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import scaling
from benchmarks.scaling_commits import checkpoint, commit
from benchmarks.scaling_page import TABLES
from benchmarks.scaling_reads import Rank, Source
from headrace.artifacts.files import write_bytes
from headrace.stream.batches import RankStream
from headrace.stream.documents import Reader
from headrace.stream.feed import TextFeed
from headrace.stream.footer import footer_of
from headrace.stream.lane import expected_samples
from headrace.stream.manifest import Manifest
from headrace.stream.order import Piece
from headrace.stream.plan import Plan
from headrace.stream.source import resolve
from headrace.stream.steps import StepReader, as_state
from headrace.stream.survey import listed, survey
from headrace.stream.tokenizer import Encoder, load_encoder
from headrace.train.checkpoints import Checkpoints
from tests.servers.faultproxy import FaultProxy
from tests.servers.gcs import GcsServer
from tests.servers.hub import HubServer
from tests.servers.hub_repos import make_dataset_repo

PAGE = Path(__file__).parents[2] / "docs/scaling.md"
TINY = Path(__file__).parents[2] / "examples/tiny-gpt2"
FILES, GROUPS, ROWS = 12, 4, 30
LANES, BATCH, BLOCK, SEGMENT = 8, 16, 512, 5
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(str(TINY))


@pytest.fixture(scope="module")
def texts() -> list[list[str]]:
    """Documents by file: of random letters, so that none is stored in fewer bytes than another of its length."""
    draw = np.random.default_rng(1)
    return [
        ["".join(draw.choice(list("etaoin shrdlu"), draw.integers(100, 2_500))) for _ in range(GROUPS * ROWS)]
        for _ in range(FILES)
    ]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]]) -> Iterator[HubServer]:
    """The documents as a Hub dataset; the footer of the first file is longer than what is read at once."""
    root = tmp_path_factory.mktemp("hub")
    files: dict[str, Path] = {}
    for i, found in enumerate(texts):
        path = root / f"{i:02}.parquet"
        table = pa.table({"text": found}).replace_schema_metadata({"why": "x" * (80_000 if i == 0 else 10)})
        pq.write_table(table, path, row_group_size=ROWS, use_dictionary=False)
        files[path.name] = path
    make_dataset_repo(root, "org/data", files)
    with HubServer(root) as server:
        yield server


@pytest.fixture
def online(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    hub.patch(monkeypatch, tmp_path / "home")
    return hub


@pytest.fixture
def manifest(online: HubServer) -> Manifest:
    return survey(listed([(resolve("org/data"), "text", 1)])).manifest


def plan_of(manifest: Manifest, encoder: Encoder) -> Plan:
    # Windows of less than a row group, so that lanes keep some of one; segments of less than all files.
    return Plan(
        manifest_hash=manifest.hash, text_column="text", tokenizer_hash=encoder.hash, eos_id=encoder.eos_id,
        heldout="", seed=3, block=BLOCK, grouped=True, lanes=LANES, global_batch=BATCH,
        window_rows=20, window_bytes=1 << 20, segment_files=SEGMENT,
    )  # fmt: skip


def source_of(manifest: Manifest, texts: list[list[str]], encoder: Encoder, hub: HubServer, *, known: bool) -> Source:
    """The same files as the model sees them: sizes from their footers, tokens from the tokenizer."""
    footers = [footer_of(io.BytesIO((hub.root / f.path).read_bytes())) for f in manifest.files]
    counts = [np.diff(encoder.encode(t)[1]) + 1 for t in texts]

    def tokens(piece: Piece) -> float:
        first = piece.row_group * ROWS
        return float(counts[piece.file][first + piece.start : first + piece.end].sum())

    return Source(
        groups=[f.known for f in manifest.files],
        chunk=lambda file, group: footers[file].metadata.row_group(group).column(0).total_compressed_size,
        footer=lambda file: footers[file].size,
        tokens=tokens,
        known=known,
    )


def simulated(
    source: Source, plan: Plan, *, world_size: int, rank: int, step: float, depth: int = 0, after: int = 0
) -> Counter[str]:
    """What the model says one rank asks for up to a step, when it begins after another."""
    order = source.order(
        seed=plan.seed, lanes=LANES, window_rows=plan.window_rows, window_bytes=plan.window_bytes, segment_files=SEGMENT
    )
    lanes = range(rank, LANES, world_size)
    until = {
        lane: step
        if step == math.inf
        else expected_samples(int(step), lane, global_batch=BATCH, lanes=LANES) * float(BLOCK)
        for lane in lanes
    }
    model = Rank(
        order, source, lanes, depth=depth, segment_files=SEGMENT, epochs=1 if step == math.inf else None,
        start=after * BATCH // LANES * float(BLOCK),
    )  # fmt: skip
    found: Counter[str] = Counter()
    for read in model.reads(until):
        found[f"{read.kind} requests"] += read.requests
        found[f"{read.kind} bytes"] += read.size
    return found


def counted(hub: HubServer, manifest: Manifest) -> Counter[str]:
    """What the server saw since it was asked last; a read that ends with the file is one of a footer."""
    sizes = {f.path: f.size for f in manifest.files}
    found: Counter[str] = Counter()
    for request in hub.requests:
        if "/resolve/" not in request.path:
            found["api"] += 1
            continue
        span = _RANGE.fullmatch(request.range)
        assert request.method == "GET" and span, request
        first, last = int(span[1]), int(span[2])
        kind = "footer" if last + 1 == sizes[request.path.rpartition("/")[2]] else "text"
        found[f"{kind} requests"] += 1
        found[f"{kind} bytes"] += last + 1 - first
    hub.requests.clear()
    return found


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("world_size", [1, 4])
def test_each_rank_asks_for_exactly_what_the_model_says(
    online: HubServer, manifest: Manifest, texts: list[list[str]], encoder: Encoder, world_size: int, known: bool
) -> None:
    plan = plan_of(manifest, encoder)
    source = source_of(manifest, texts, encoder, online, known=known)
    given = manifest if known else manifest.mapped(lambda _, f: replace(f, row_groups=None))
    for rank in range(world_size):
        reader = Reader(given)
        steps = StepReader(plan, reader.shards, TextFeed(reader, encoder), world_size=world_size, rank=rank)
        online.requests.clear()
        seen: Counter[str] = Counter()
        for step in range(1, 61):
            steps.next_step()
            if step in (1, 7, 60):
                seen += settled(reader, online, manifest)
                found = {k: v for k, v in seen.items() if k != "api"}
                assert found == simulated(source, plan, world_size=world_size, rank=rank, step=step), step
        reader.shards.close()


@pytest.mark.parametrize("known", [True, False])
def test_a_rank_that_goes_on_asks_for_what_the_model_says(
    online: HubServer, manifest: Manifest, texts: list[list[str]], encoder: Encoder, known: bool
) -> None:
    plan = plan_of(manifest, encoder)
    source = source_of(manifest, texts, encoder, online, known=known)
    given = manifest if known else manifest.mapped(lambda _, f: replace(f, row_groups=None))
    before = Reader(manifest)
    one = StepReader(plan, before.shards, TextFeed(before, encoder))
    for _ in range(25):
        one.next_step()
    state = as_state(25, one.cursors)
    for rank in range(4):
        reader = Reader(given)
        steps = StepReader(plan, reader.shards, TextFeed(reader, encoder), world_size=4, rank=rank, state=state)
        online.requests.clear()
        seen: Counter[str] = Counter()
        for step in range(26, 50):
            steps.next_step()
            if step in (26, 49):
                seen += settled(reader, online, manifest)
                model = simulated(source, plan, world_size=4, rank=rank, step=step, after=25)
                assert {k: v for k, v in seen.items() if k != "api"} == model, step
        reader.shards.close()


def settled(reader: Reader, hub: HubServer, manifest: Manifest) -> Counter[str]:
    """What the server saw, once the footers that are read ahead are there."""
    for future in list(reader.shards._groups.values()):
        future.result()
    return counted(hub, manifest)


@pytest.mark.parametrize("world_size", [1, 4])
def test_an_epoch_of_threads_asks_for_no_text_twice(
    online: HubServer, manifest: Manifest, texts: list[list[str]], encoder: Encoder, world_size: int
) -> None:
    plan = plan_of(manifest, encoder)
    source = source_of(manifest, texts, encoder, online, known=True)
    for rank in range(world_size):
        reader = Reader(manifest)
        online.requests.clear()
        stream = RankStream(
            plan, reader.shards, TextFeed(reader, encoder), world_size=world_size, rank=rank, batch=4, epochs=1
        )
        for batch in stream:
            if batch.ended:
                break
        stream.close()
        found = counted(online, manifest)
        model = simulated(source, plan, world_size=world_size, rank=rank, step=math.inf, depth=8)
        assert found["text requests"] == model["text requests"]
        assert found["text bytes"] == model["text bytes"]
        # Threads that need a file at the same moment each open it.
        assert model["footer requests"] <= found["footer requests"] <= 3 * model["footer requests"]


def test_a_commit_asks_of_a_bucket_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with GcsServer() as server, FaultProxy(server.url) as proxy:
        server.create_bucket("runs")
        for key, value in {**server.env(), "STORAGE_EMULATOR_HOST": proxy.url}.items():
            monkeypatch.setenv(key, value)
        places = Checkpoints(tmp_path, "gs://runs/a", keep=2)
        files = {name: 100 + i for i, name in enumerate(checkpoint(1_000, world_size=3, lanes=4))}
        all_ledger = 0
        for number in range(1, 5):
            if number in (1, 3):  # a start of three ranks, whose files grow until the next
                ledger = {f"ledger/{number:06d}-{r:05d}-of-00003.{e}": 0 for r in range(3) for e in ("bin", "jsonl")}
                all_ledger += len(ledger)
            for name in ledger:
                write_bytes(tmp_path / name, b"x" * number)
            for name, size in files.items():
                write_bytes(tmp_path / f"checkpoint-{number}" / name, bytes(size))
            proxy.log.clear()
            state = {"step": number, "plan_hash": "p", "interim": False}
            places.commit(tmp_path / f"checkpoint-{number}", state, None, "")
            # The client asks for the bucket itself once, and again after a 404: left out.
            methods = Counter(e.method for e in proxy.log if "/b/runs/o" in e.path)
            said = commit(files, ledger=ledger, all_ledger=all_ledger, kept=min(number, 3), prunes=number > 2)
            assert said == {"writes": methods["POST"], "reads": methods["GET"], "deletes": methods["DELETE"]}, number


def test_the_page_says_what_the_tool_says() -> None:
    page = PAGE.read_text()
    for name, rows in (
        ("filler", scaling.filler(scaling.LANES, scaling.GLOBAL_BATCH)),
        ("commits", scaling.commit_costs()),
    ):
        said = page.split(f"<!-- table {name} -->")[1].split("<!-- end -->")[0].strip()
        assert said == TABLES[name]({name: rows}).strip()
    assert set(re.findall(r"<!-- table (\w+) -->", page)) == set(TABLES)
