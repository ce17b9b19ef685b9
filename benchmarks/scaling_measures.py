"""What is measured for the page on scale: manifests, the ledger, and ranks that go on, all with the real code."""

from __future__ import annotations

import http.server
import json
import multiprocessing
import os
import pickle
import statistics
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.scaling_source import Shape
from headrace.stream.batches import RankStream
from headrace.stream.documents import Reader
from headrace.stream.feed import TextFeed
from headrace.stream.lane import Cursor, expected_samples
from headrace.stream.ledger import CURSORS_EVERY, Ledger
from headrace.stream.manifest import Manifest, ManifestFile, Part
from headrace.stream.plan import Plan
from headrace.stream.steps import as_state
from headrace.stream.survey import survey
from headrace.stream.tokenizer import Encoder, load_encoder

EXAMPLES = Path(__file__).parents[1] / "examples"
BLOCK = 2_048
LATENCY_S, BYTES_PER_S = 0.1, 25e6
"""Of the server that ranks go on from: each answer's delay, and speed of a connection."""


def manifest(shape: Shape, *, known: bool) -> dict[str, float]:
    """Bytes and seconds of a manifest as it is written, read, and handed to another rank."""
    made = shape.manifest(known=known)
    began = time.perf_counter()
    text = json.dumps(made.to_json())
    written = time.perf_counter()
    read = Manifest.from_json(json.loads(text))
    loaded = time.perf_counter()
    sent = pickle.dumps(made)
    pickle.loads(sent)
    taken = time.perf_counter()
    return {
        "files": shape.files, "row_groups": shape.files * shape.groups, "known": read.known, "bytes": len(text),
        "write_s": written - began, "read_s": loaded - written, "sent_bytes": len(sent), "send_s": taken - loaded,
    }  # fmt: skip


def ledger(world_size: int, steps: int, lanes: int) -> dict[str, float]:
    """Files, bytes and seconds of the ledger that every commit reads while all ranks wait."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for rank in range(world_size):
            name = folder / f"000001-{rank:05d}-of-{world_size:05d}"
            name.with_suffix(".bin").write_bytes(b"".join(struct.pack("<QQ", s, s * rank) for s in range(1, steps + 1)))
            own = {lane: (Cursor(0, 0, 400, 500, 600, 700),) for lane in range(rank, lanes, world_size)}
            every = (json.dumps(as_state(s, own)) for s in range(CURSORS_EVERY, steps + 1, CURSORS_EVERY))
            name.with_suffix(".jsonl").write_text("".join(line + "\n" for line in every))
        sizes = [p.stat().st_size for p in folder.iterdir()]
        began = time.perf_counter()
        Ledger.read(folder).head(steps)
        return {
            "world_size": world_size, "steps": steps, "files": len(sizes), "bytes": sum(sizes),
            "seconds": time.perf_counter() - began,
        }  # fmt: skip


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """Ranges of files, late and slow as over a network, counted."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    asked: Any
    sent: Any

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        start, end, size = int(first), int(last) + 1, path.stat().st_size
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(end - start)
        self._count(len(data))
        time.sleep(len(data) / BYTES_PER_S)
        self._answer(206, len(data), {"Content-Range": f"bytes {start}-{end - 1}/{size}"})
        self.wfile.write(data)
        self.wfile.flush()

    def do_HEAD(self) -> None:
        self._count(0)
        self._answer(200, Path(self.translate_path(self.path)).stat().st_size, {"Accept-Ranges": "bytes"})

    def _count(self, size: int) -> None:
        with self.asked.get_lock():
            self.asked.value += 1
            self.sent.value += size
        time.sleep(LATENCY_S)

    def _answer(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, Callable[[], tuple[int, int]]]]:
    """A server of a folder in a process of its own: its address, and requests and bytes since it was asked last."""
    forked = multiprocessing.get_context("fork")
    asked, sent, ports = forked.Value("q"), forked.Value("q"), forked.Queue()

    def serve() -> None:
        handler = type("Handler", (_Ranges,), {"asked": asked, "sent": sent})
        server = _Server(("127.0.0.1", 0), lambda *a: handler(*a, directory=str(folder)))
        ports.put(server.server_address[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        parent = os.getppid()
        while os.getppid() == parent:
            time.sleep(0.2)

    def count() -> tuple[int, int]:
        with asked.get_lock():
            found = (asked.value, sent.value)
            asked.value = sent.value = 0
        return found

    process = forked.Process(target=serve, daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ports.get()}", count
    finally:
        process.kill()
        process.join()


class Corpus:
    """Real files of many row groups under many names, all of one row group of text: a segment of FineWeb in megabytes.

    A footer may name the same bytes in all its row groups, so that reading each costs what reading its own would.
    """

    def __init__(self, folder: Path, shape: Shape, encoder: Encoder) -> None:
        self.folder, self.shape = folder, shape
        text = " ".join(t for p in sorted((EXAMPLES / "pydocs/data").glob("*.parquet")) for t in _texts(p))
        draw = np.random.default_rng(1)
        sizes = draw.integers(shape.row_bytes // 2, shape.row_bytes * 3 // 2, shape.rows)
        starts = draw.integers(0, len(text) - 2 * shape.row_bytes, shape.rows)
        rows = [text[a : a + n] for a, n in zip(starts.tolist(), sizes.tolist(), strict=True)]
        self.tokens = np.diff(encoder.encode(rows)[1]) + 1
        self._write(rows)

    def _write(self, rows: list[str]) -> None:
        n = len(rows)
        words = {"id": "<urn:uuid:{:032x}>", "url": "https://example.org/{:040d}", "file_path": "s3://crawl/{:0120d}"}
        columns: dict[str, Any] = {"text": rows} | {k: [v.format(i) for i in range(n)] for k, v in words.items()}
        columns |= {"dump": ["CC-MAIN-2024-10"] * n, "date": ["2024-02-29T12:00:00Z"] * n, "language": ["en"] * n}
        columns |= {"language_score": draw_scores(n), "token_count": self.tokens}
        first = self.folder / "00000.parquet"
        pq.write_table(pa.table(columns), first, row_group_size=n, compression="snappy")
        one = pq.read_metadata(first)
        every = pq.read_metadata(first)
        for _ in range(self.shape.groups - 1):
            every.append_row_groups(one)
        data = first.read_bytes()
        ends = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        every.write_metadata_file(self.folder / "footer")
        first.write_bytes(data[:ends] + (self.folder / "footer").read_bytes()[4:])
        for i in range(1, self.shape.files):
            os.link(first, self.folder / f"{i:05}.parquet")

    def manifest(self, base: str) -> Manifest:
        """The files as a listing has them, below an address."""
        size = (self.folder / "00000.parquet").stat().st_size
        names = [f"{i:05}.parquet" for i in range(self.shape.files)]
        files = tuple(ManifestFile(name, f"{base}/{name}", size, "") for name in names)
        return Manifest((Part(name="corpus", files=files),))

    def state(self, plan: Plan, manifest: Manifest, step: int) -> dict[str, Any]:
        """Where all lanes stand after a step, worked out from the lengths of the documents."""
        reader = Reader(manifest)
        order = plan.orders(reader.shards)[0]
        upto = np.concatenate([[0], np.cumsum(self.tokens)])
        lanes: dict[int, Any] = {}
        for lane in range(plan.lanes):
            samples = expected_samples(step, lane, global_batch=plan.global_batch, lanes=plan.lanes)
            left, number = samples * plan.block, 0
            pieces = order.windows(0, 0, lane)
            totals = [int(sum(upto[p.end] - upto[p.start] for p in window)) for window in pieces]
            while left >= totals[number]:
                left, number = left - totals[number], number + 1
            rows = np.concatenate([self.tokens[p.start : p.end] for p in pieces[number]])
            ends = list(accumulate(rows[order.row_order(0, 0, lane, number, len(rows))].tolist()))
            row = int(np.searchsorted(ends, left, "right"))
            lanes[lane] = (Cursor(0, 0, number, row, left - (ends[row - 1] if row else 0), samples),)
        return as_state(step, lanes)


def draw_scores(n: int) -> list[float]:
    """Scores such as FineWeb's language_score."""
    scores: list[float] = np.random.default_rng(2).uniform(0.65, 1, n).tolist()
    return scores


def _texts(path: Path) -> list[str]:
    texts: list[str] = pq.read_table(path).column(0).to_pylist()
    return texts


def resumes(
    lanes: int, step: int, worlds: Mapping[bool, Mapping[int, tuple[int, ...]]], tell: Callable[[int], object]
) -> list[Any]:
    """Ranks that go on from a step over HTTP: seconds to the first step, requests and bytes by then, as medians.

    worlds: ranks by world size, where the manifest holds the row groups and where it does not.
    """
    shape = Shape(files=256, groups=1_000, rows=1_000)
    encoder = load_encoder(str(EXAMPLES / "tiny-gpt2"))
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Corpus(Path(scratch), shape, encoder)
        here = survey(corpus.manifest(scratch)).manifest
        plan = Plan(
            manifest_hash=here.hash, text_column="text", tokenizer_hash=encoder.hash, eos_id=encoder.eos_id,
            heldout="", seed=1, block=BLOCK, grouped=True, lanes=lanes, global_batch=2 * lanes,
        )  # fmt: skip
        state = corpus.state(plan, here, step)
        with served(Path(scratch)) as (base, count):
            for known, sizes in worlds.items():
                there = here.mapped(
                    lambda _, f, known=known: replace(  # type: ignore[misc]
                        f, uri=f"{base}/{f.path}", row_groups=f.row_groups if known else None
                    )
                )
                for world_size, ranks in sizes.items():
                    runs = [_resume(plan, there, encoder, state, world_size, rank, count) for rank in ranks]
                    middle = {k: statistics.median(r[k] for r in runs) for k in runs[0]}
                    found.append({"world_size": world_size, "known": known, "ranks": list(ranks), **middle})
                    tell(len(ranks))
    return found


def _resume(
    plan: Plan, manifest: Manifest, encoder: Encoder, state: dict[str, Any], world_size: int, rank: int,
    count: Callable[[], tuple[int, int]],
) -> dict[str, float]:  # fmt: skip
    """One rank, to the end of its first step."""
    count()
    reader = Reader(manifest)
    began = time.perf_counter()
    stream = RankStream(
        plan, reader.shards, TextFeed(reader, encoder), world_size=world_size, rank=rank, batch=1, state=state
    )
    for _ in range(stream.accumulation):
        next(stream)
    seconds = time.perf_counter() - began
    first = stream._reader.step
    requests, size = count()
    stream.close()
    assert first > int(state["step"])
    return {"seconds": seconds, "requests": requests, "bytes": size}
