"""Further paths of the benchmark, for `stream.py --all`: other shapes of data, slow sources, prepared formats."""

from __future__ import annotations

import http.server
import json
import multiprocessing
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

BLOCK, BATCH = 1024, 8
LARGE_BYTES = 128 << 20
LARGE_LANES = 64
RARE_BYTES = 40 << 20
LISTED_FILES, LISTED_GROUPS = 25_000, 1_000
LATENCY_S, BYTES_PER_S = 0.1, 200e6 / 8


def texts(corpus: Path) -> list[str]:
    """Every document of the corpus."""
    return [t for p in sorted((corpus / "data").glob("*.parquet")) for t in pq.read_table(p).column(0).to_pylist()]


def split(corpus: Path, files: int) -> Path:
    """The corpus in so many files; made once."""
    folder = corpus / f"files-{files}"
    if not folder.is_dir():
        found = texts(corpus)
        # As many documents in each of 4 files as in each of 4,000 takes shorter ones: cut where there are too few.
        size = sum(map(len, found)) // 8_000
        found = [t[i : i + size] for t in found for i in range(0, len(t), size)]
        making = folder.with_suffix(".making")
        making.mkdir(exist_ok=True)
        for i in range(files):
            table = pa.table({"text": pa.array(found[i::files], pa.string())})
            pq.write_table(table, making / f"{i:05}.parquet", compression="zstd", row_group_size=200)
        making.rename(folder)
    return folder


def grown(corpus: Path, files: int) -> Path:
    """A quarter of the corpus under so many names: files of the same size each."""
    folder = corpus / f"grown-{files}"
    if not folder.is_dir():
        making = folder.with_suffix(".making")
        making.mkdir(exist_ok=True)
        found = texts(corpus)
        table = pa.table({"text": pa.array(found[::4], pa.string())})
        pq.write_table(table, making / "00000.parquet", compression="zstd", row_group_size=200)
        for i in range(1, files):
            os.link(making / "00000.parquet", making / f"{i:05}.parquet")
        making.rename(folder)
    return folder


def large(corpus: Path, groups: int) -> Path:
    """So many row groups of 128 MB of text: a file of two, under many names."""
    folder = corpus / f"large-{groups}"
    if not folder.is_dir():
        found, rows, size = texts(corpus), [], 0
        while size < LARGE_BYTES:
            rows.append(found[len(rows) % len(found)])
            size += len(rows[-1].encode())
        table = pa.table({"text": pa.array(rows, pa.string())})
        making = folder.with_suffix(".making")
        making.mkdir(exist_ok=True)
        first = making / "00000.parquet"
        with pq.ParquetWriter(first, table.schema, compression="zstd", use_dictionary=False) as writer:
            for _ in range(2):
                writer.write_table(table, row_group_size=1 << 40)
        for i in range(1, groups // 2):
            os.link(first, making / f"{i:05}.parquet")
        making.rename(folder)
    return folder


def listing(corpus: Path) -> Path:
    """25,000 names of one file with 1,000 row groups."""
    folder = corpus / "listing"
    if not folder.is_dir():
        found = [t[:2_000] for t in texts(corpus)[: 2 * LISTED_GROUPS]]
        making = folder.with_suffix(".making")
        making.mkdir(exist_ok=True)
        table = pa.table({"text": pa.array(found, pa.string())})
        pq.write_table(table, making / "00000.parquet", row_group_size=2)
        for i in range(1, LISTED_FILES):
            os.link(making / "00000.parquet", making / f"{i:05}.parquet")
        making.rename(folder)
    return folder


def rare(corpus: Path) -> Path:
    """Words of random letters, hardly any twice: fast tokenizers cache words."""
    folder = corpus / "rare"
    if not folder.is_dir():
        draw = random.Random(1)
        letters = "abcdefghijklmnopqrstuvwxyz"
        words = RARE_BYTES // 8
        flat = ["".join(draw.choices(letters, k=draw.randint(4, 10))) for _ in range(words)]
        documents = [" ".join(flat[i : i + 800]) for i in range(0, words, 800)]
        making = folder.with_suffix(".making")
        making.mkdir(exist_ok=True)
        for i in range(8):
            table = pa.table({"text": pa.array(documents[i::8], pa.string())})
            pq.write_table(table, making / f"{i}.parquet", compression="zstd", row_group_size=100)
        making.rename(folder)
    return folder


def opened(corpus: Path, data: Path, *, keep: bool = True, serve: str = "", **flags: Any) -> Any:
    """A RankStream over a folder, its manifest kept beside it as validation would hand it on.

    serve: address under which the same files are read instead.
    """
    from headrace import inputs
    from headrace.options import parse_mapping
    from headrace.stream.batches import RankStream
    from headrace.stream.feed import EVERYTHING
    from headrace.stream.manifest import Manifest

    options = parse_mapping({"dataset_name": str(data), "model_name_or_path": str(corpus / "gpt2"), **flags})
    kept = data.with_suffix(".json")
    if keep and kept.is_file():
        manifest = Manifest.from_json(json.loads(kept.read_text()))
    else:
        manifest = inputs.open_manifest(options)
        kept.write_text(json.dumps(manifest.to_json()))
    if serve:
        manifest = manifest.mapped(lambda _, f: replace(f, uri=f"{serve}/{f.path}", etag=""))
    reader, encoder = inputs.open_reader(options, manifest), inputs.open_encoder(options)
    plan = inputs.open_plan(options, reader, encoder, None, EVERYTHING, block=BLOCK, global_batch=BATCH)
    feed = inputs.open_feed(reader, encoder, EVERYTHING)
    return RankStream(plan, reader.shards, feed, batch=BATCH)


def tokens(stream: Any) -> Iterator[int]:
    """Tokens of each micro-batch, as torch tensors."""
    import torch

    for batch in stream:
        torch.from_numpy(batch.input_ids), torch.from_numpy(batch.labels)
        yield batch.tokens


class _Throttled(http.server.SimpleHTTPRequestHandler):
    """Ranges of files, each after 100 ms and at 200 Mbit/s a connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(LATENCY_S)
        path = Path(self.translate_path(self.path))
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        size = path.stat().st_size
        start, end = int(first), min(int(last) + 1 if last else size, size)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        began, sent = time.monotonic(), 0
        with path.open("rb") as file, suppress(ConnectionError):  # the reader may go away
            file.seek(start)
            while sent < end - start:
                data = file.read(min(64 << 10, end - start - sent))
                self.wfile.write(data)
                sent += len(data)
                time.sleep(max(0.0, sent / BYTES_PER_S - (time.monotonic() - began)))

    def do_HEAD(self) -> None:
        time.sleep(LATENCY_S)
        size = Path(self.translate_path(self.path)).stat().st_size
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Nothing: readers go away when they like."""


def _serve(folder: str, ports: Any) -> None:
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # the reader keeps its core for itself
    server = _Server(("127.0.0.1", 0), lambda *a: _Throttled(*a, directory=folder))
    ports.put(server.server_address[1])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    parent = os.getppid()
    while os.getppid() == parent:  # the reader ends without a word
        time.sleep(0.2)


def http_source(corpus: Path) -> Iterator[int]:
    """The files of `grown-4000`, none read twice, over HTTP with latency, from a server in a process of its own."""
    forked = multiprocessing.get_context("fork")
    ports = forked.Queue()
    folder = grown(corpus, 4_000)
    forked.Process(target=_serve, args=(str(folder), ports), daemon=True).start()
    return tokens(opened(corpus, folder, serve=f"http://127.0.0.1:{ports.get()}"))


def rare_limit(corpus: Path) -> Iterator[int]:
    """The tokenizer alone on rare words."""
    from headrace.stream.tokenizer import load_encoder

    encoder = load_encoder(str(corpus / "gpt2"))
    found = [t for p in sorted(rare(corpus).glob("*.parquet")) for t in pq.read_table(p).column(0).to_pylist()]
    encoder.accelerate(found[:20])
    while True:
        for start in range(0, len(found), 16):
            yield len(encoder.encode(found[start : start + 16])[0])


def prepared(corpus: Path, name: str, make: Callable[[Path, list[str]], None]) -> Path:
    """A folder of the corpus in another format, and beside it what making it cost."""
    folder = corpus / name
    cost = folder.with_suffix(".json")
    if not cost.is_file():
        found = texts(corpus)
        began = time.perf_counter()
        make(folder, found)
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        cost.write_text(json.dumps({"seconds": time.perf_counter() - began, "bytes": size}))
    return folder


def _ids(corpus: Path, found: list[str]) -> Iterator[Any]:
    """Token ids of each document with its end."""
    import numpy as np

    from headrace.stream.tokenizer import load_encoder

    encoder = load_encoder(str(corpus / "gpt2"))
    encoder.accelerate(found[:20])
    for start in range(0, len(found), 64):
        ids, offsets = encoder.encode(found[start : start + 64])
        for a, b in pairwise(offsets):
            yield np.append(ids[a:b], encoder.eos_id).astype(np.int32)


def arrow(corpus: Path) -> Iterator[int]:
    """`datasets` on blocks that were tokenised to disk before, in Arrow."""
    import datasets
    import numpy as np
    from torch.utils.data import DataLoader

    def make(folder: Path, found: list[str]) -> None:
        flat = np.concatenate(list(_ids(corpus, found)))
        blocks = flat[: len(flat) // BLOCK * BLOCK].reshape(-1, BLOCK)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(blocks.reshape(-1)), BLOCK)
        datasets.Dataset(pa.table({"input_ids": lists})).save_to_disk(str(folder))

    rows: Any = datasets.load_from_disk(str(prepared(corpus, "arrow", make))).with_format("torch")
    while True:
        for batch in DataLoader(rows, batch_size=BATCH):
            yield batch["input_ids"].numel()


def litdata(corpus: Path) -> Iterator[int]:
    """LitData on tokens that were written to its own format before."""
    from litdata import StreamingDataLoader, StreamingDataset, TokensLoader
    from litdata.streaming.cache import Cache

    def make(folder: Path, found: list[str]) -> None:
        import torch

        cache = Cache(str(folder), chunk_bytes="64MB", item_loader=TokensLoader(block_size=BLOCK))
        for i, ids in enumerate(_ids(corpus, found)):
            cache[i] = torch.from_numpy(ids)
        cache.done()
        cache.merge()

    folder = prepared(corpus, "litdata", make)
    rows = StreamingDataset(str(folder), item_loader=TokensLoader(block_size=BLOCK), shuffle=True)
    while True:
        for batch in StreamingDataLoader(rows, batch_size=BATCH, num_workers=0):
            yield batch.numel()


def mds(corpus: Path) -> Iterator[int]:
    """MosaicML's streaming on blocks that were written as MDS before."""
    import numpy as np
    from streaming import MDSWriter, StreamingDataset
    from torch.utils.data import DataLoader

    def make(folder: Path, found: list[str]) -> None:
        flat = np.concatenate(list(_ids(corpus, found)))
        with MDSWriter(out=str(folder), columns={"tokens": f"ndarray:int32:{BLOCK}"}) as out:
            for start in range(0, len(flat) - BLOCK + 1, BLOCK):
                out.write({"tokens": flat[start : start + BLOCK]})

    folder = prepared(corpus, "mds", make)
    while True:
        rows = StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH)
        for batch in DataLoader(rows, batch_size=BATCH):
            yield batch["tokens"].numel()


PATHS: dict[str, Callable[[Path], Iterator[int]]] = {
    "http": http_source,
    "rare": lambda corpus: tokens(opened(corpus, rare(corpus))),
    "rare-limit": rare_limit,
    "grown-4": lambda corpus: tokens(opened(corpus, grown(corpus, 4))),
    "grown-4000": lambda corpus: tokens(opened(corpus, grown(corpus, 4_000))),
    "files-4000-small": lambda corpus: tokens(opened(corpus, split(corpus, 4_000))),
    "row-groups-128MB": lambda corpus: tokens(opened(corpus, large(corpus, 64), lanes=LARGE_LANES)),
    "row-groups-128MB-shared": lambda corpus: tokens(opened(corpus, large(corpus, 8), lanes=LARGE_LANES)),
    "listing": lambda corpus: tokens(opened(corpus, listing(corpus), keep=False)),
    "arrow": arrow,
    "litdata": litdata,
    "mds": mds,
}
NEEDS = {"litdata": "litdata", "mds": "streaming"}
"""Modules that are no dependencies of the project; their paths are left out where they are not installed."""


def available() -> list[str]:
    """The paths that can run here; what is missing is told."""
    from importlib.util import find_spec

    missing = {path: module for path, module in NEEDS.items() if find_spec(module) is None}
    for path, module in missing.items():
        print(f"benchmark: {path} is left out: the module {module} is not installed", file=sys.stderr)
    return [p for p in PATHS if p not in missing]
