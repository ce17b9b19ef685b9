"""How fast tokens come out of the stream, as ratios in one run: `python benchmarks/stream.py --json FILE`.

Each path runs in a fresh process pinned to one core, interleaved with the others, several times. `reference` is
what the recipe does (`datasets` map tokenise, map group_texts, default collator); `limit` is the tokenizer alone on
the same strings in memory; `tokenizers` is Headrace with the fast tokenizer switched off.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import extras  # beside this file

BLOCK, BATCH = 1024, 8
WARM_TOKENS = 2_000_000
"""Left out of the time: at first every lane encodes a chunk ahead, which nothing has asked for yet."""
RESUME_STEPS, FAR_STEP = (200, 5_000), 50_000
REPLAYED_STEPS = (200, 1_000)
"""How far the reference is gone on from: its cost grows with the step."""
PACKAGES = ("datasets", "tokenizers", "fastokens", "transformers", "torch", "pyarrow", "numpy")


def headrace_stream(corpus: Path, *, fast: bool = True, state: dict[str, Any] | None = None) -> Any:
    """A RankStream over the corpus, as `headrace train` opens it."""
    from headrace import inputs
    from headrace.options import parse_mapping
    from headrace.stream.batches import RankStream
    from headrace.stream.feed import EVERYTHING, TextFeed
    from headrace.stream.manifest import Manifest

    options = parse_mapping({"dataset_name": str(corpus / "data"), "model_name_or_path": str(corpus / "gpt2")})
    kept = corpus / "manifest.json"
    if kept.is_file():
        manifest = Manifest.from_json(json.loads(kept.read_text()))
    else:
        manifest = inputs.open_manifest(options)
        kept.write_text(json.dumps(manifest.to_json()))
    reader, encoder = inputs.open_reader(options, manifest), inputs.open_encoder(options)
    plan = inputs.open_plan(options, reader, encoder, None, EVERYTHING, block=BLOCK, global_batch=BATCH)
    feed = inputs.open_feed(reader, encoder, EVERYTHING) if fast else TextFeed(reader, encoder)
    return RankStream(plan, reader.shards, feed, batch=BATCH, state=state)


def headrace(corpus: Path) -> Iterator[int]:
    """Tokens of each micro-batch of Headrace, as torch tensors."""
    return _tokens(headrace_stream(corpus))


def tokenizers(corpus: Path) -> Iterator[int]:
    """The same with `tokenizers`."""
    return _tokens(headrace_stream(corpus, fast=False))


def _tokens(stream: Any) -> Iterator[int]:
    import torch

    for batch in stream:
        torch.from_numpy(batch.input_ids), torch.from_numpy(batch.labels)
        yield batch.tokens


def reference(corpus: Path) -> Iterator[int]:
    """Tokens of each batch of the recipe."""
    import datasets
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer, default_data_collator

    tokenizer = AutoTokenizer.from_pretrained(corpus / "gpt2")
    files = sorted(str(p) for p in (corpus / "data").glob("*.parquet"))
    rows = datasets.load_dataset("parquet", data_files={"train": files}, streaming=True)["train"]

    def group(examples: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        joined = {k: list(chain(*examples[k])) for k in examples}
        total = len(joined["input_ids"]) // BLOCK * BLOCK
        blocks = {k: [t[i : i + BLOCK] for i in range(0, total, BLOCK)] for k, t in joined.items()}
        blocks["labels"] = blocks["input_ids"].copy()
        return blocks

    tokenised = rows.map(lambda x: tokenizer(x["text"]), batched=True, remove_columns=["text"])
    grouped = tokenised.map(group, batched=True)
    while True:
        for batch in DataLoader(grouped, batch_size=BATCH, collate_fn=default_data_collator):
            yield batch["input_ids"].numel()


def limit(corpus: Path) -> Iterator[int]:
    """Tokens a call of the tokenizer alone, on strings that are in memory already."""
    import pyarrow.parquet as pq

    from headrace.stream.tokenizer import load_encoder

    encoder = load_encoder(str(corpus / "gpt2"))
    texts = [t for p in sorted((corpus / "data").glob("*.parquet")) for t in pq.read_table(p).column(0).to_pylist()]
    encoder.accelerate(texts[:20])
    while True:
        for start in range(0, len(texts), 16):
            yield len(encoder.encode(texts[start : start + 16])[0])


PATHS: dict[str, Callable[[Path], Iterator[int]]] = {
    "reference": reference,
    "headrace": headrace,
    "limit": limit,
    "tokenizers": tokenizers,
}
"""What is always measured; `extras` has the rest."""


def measure(path: str, corpus: Path, seconds: float) -> dict[str, float]:
    """One path in this process: seconds to the first batch, then tokens/s over a fixed time, and peak memory."""
    began = time.perf_counter()
    batches = {**PATHS, **extras.PATHS}[path](corpus)
    next(batches)
    first = time.perf_counter() - began
    warm = 0
    while warm < WARM_TOKENS:
        warm += next(batches)
    tokens, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        tokens += next(batches)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"tokens_per_s": tokens / elapsed, "first_batch_s": first, "peak_rss_mb": peak}


def write_states(corpus: Path, steps: list[int]) -> None:
    """Run the stream to the last of some steps, keeping the states on the way."""
    stream = headrace_stream(corpus)
    for step in range(1, max(steps) + 1):
        next(stream)
        if step in steps:
            (corpus / f"state-{step}.json").write_text(json.dumps(stream.state_at(step)))
    stream.close()


def resume(corpus: Path, step: int) -> float:
    """Seconds from a state to the first batch, all imports done before."""
    state = json.loads((corpus / f"state-{step}.json").read_text())
    stream = headrace_stream(corpus)
    next(stream)
    stream.close()
    began = time.perf_counter()
    stream = headrace_stream(corpus, state=state)
    next(stream)
    elapsed: float = time.perf_counter() - began
    stream.close()
    return elapsed


def replay(corpus: Path, step: int) -> float:
    """Seconds in which the reference gets to a step, as Trainer does it: by reading everything before."""
    batches = reference(corpus)
    next(batches)
    began = time.perf_counter()
    next(islice(batches, step - 1, None))
    return time.perf_counter() - began


def in_process(*arguments: str) -> Any:
    """What a fresh process of this script, pinned to one core, prints as JSON."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    core = str(max(os.sched_getaffinity(0)))
    command = ["taskset", "-c", core, sys.executable, __file__, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"benchmark: {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(corpus: Path, repeats: int, seconds: float, paths: list[str]) -> dict[str, Any]:
    """Every path `repeats` times, interleaved."""
    runs: dict[str, list[dict[str, float]]] = {p: [] for p in paths}
    for repeat in range(repeats):
        for path in paths:
            runs[path].append(in_process("--measure", path, "--corpus", str(corpus), "--seconds", str(seconds)))
            print(
                f"  {repeat + 1}/{repeats} {path:12s} {runs[path][-1]['tokens_per_s'] / 1e6:8.2f} M tokens/s",
                file=sys.stderr,
            )
    return {
        path: {
            "tokens_per_s": [r["tokens_per_s"] for r in found],
            "peak_rss_mb": max(r["peak_rss_mb"] for r in found),
            "first_batch_s": statistics.median(r["first_batch_s"] for r in found),
        }
        for path, found in runs.items()
    }


def ratios(paths: dict[str, Any]) -> dict[str, float]:
    """Median of the ratios of runs that stood beside each other."""

    def ratio(a: str, b: str) -> float:
        pairs = zip(paths[a]["tokens_per_s"], paths[b]["tokens_per_s"], strict=True)
        return statistics.median(x / y for x, y in pairs)

    return {
        f"{a}/{b}": ratio(a, b)
        for a, b in (("headrace", "reference"), ("headrace", "limit"), ("tokenizers", "reference"))
    }


def environment() -> dict[str, Any]:
    """The machine and the versions that the figures hold for."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform(),
        "packages": {p: version(p) for p in PACKAGES},
    }  # fmt: skip


def resumed(corpus: Path, repeats: int, far: bool) -> dict[str, Any]:
    """Seconds to the first batch from states at several steps, and the reference's replay."""
    steps = [*RESUME_STEPS, *([FAR_STEP] if far else [])]
    in_process("--states", *map(str, steps), "--corpus", str(corpus))

    def median(how: str, step: int, times: int) -> float:
        return statistics.median(in_process(how, str(step), "--corpus", str(corpus)) for _ in range(times))

    return {
        "resume": {str(s): median("--resume", s, repeats) for s in steps},
        "replay": {str(s): median("--replay", s, 1) for s in REPLAYED_STEPS} if far else {},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--corpus", type=Path, default=Path("benchmarks/.corpus"), help="where the corpus is kept")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0, help="measured time of a run")
    parser.add_argument("--all", action="store_true", help="also other shapes of data, slow sources, prepared formats")
    parser.add_argument("--measure", choices=[*PATHS, *extras.PATHS], help=argparse.SUPPRESS)
    parser.add_argument("--states", type=int, nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--resume", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--replay", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.corpus, args.seconds)))
        sys.stdout.flush()
        os._exit(0)  # reader threads need not be waited for
    if args.states:
        write_states(args.corpus, args.states)
        print("{}")
    elif args.resume is not None:
        print(json.dumps(resume(args.corpus, args.resume)))
    elif args.replay is not None:
        print(json.dumps(replay(args.corpus, args.replay)))
    else:
        run(args.corpus, args.repeats, args.seconds, args.json, everything=args.all)


def run(corpus: Path, repeats: int, seconds: float, file: Path | None, *, everything: bool) -> None:
    """Measure every path, print the ratios, and write all figures to a file."""
    import corpus as corpora

    facts = corpora.make(corpus)
    print(f"corpus: {facts}", file=sys.stderr)
    paths = compare(corpus, repeats, seconds, [*PATHS, *(extras.available() if everything else [])])
    result: dict[str, Any] = {
        "environment": environment(), "corpus": facts, "paths": paths, "ratios": ratios(paths),
        **resumed(corpus, repeats, everything),
    }  # fmt: skip
    if everything:
        costs = {n: corpus / f"{n}.json" for n in ("arrow", "litdata", "mds")}
        result["prepared"] = {n: json.loads(p.read_text()) for n, p in costs.items() if p.is_file()}
        result["listing"] = {"manifest_bytes": (corpus / "listing.json").stat().st_size}
    if file:
        file.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({k: result[k] for k in ("ratios", "resume")}, indent=2))


if __name__ == "__main__":
    main()
