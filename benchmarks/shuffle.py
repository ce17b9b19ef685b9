"""How well batches mix their sources, where every file is of one source: `python benchmarks/shuffle.py --json FILE`.

The figure is the variance of the count of a source in a global batch, as a multiple of what drawing at random gives:
1 is as good as random, the batch size is a batch of one source. Headrace's own order is read, on rows of one block;
`datasets` shuffles with its buffer, over the same rows in 100 shards and in one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOURCES, GROUPS, ROWS, ROW_BYTES = 100, 8, 500, 4_096
BATCH, BLOCK = 512, 1_024


class _Window:
    """Rows of one block of two tokens, which name their source."""

    def __init__(self, sources: NDArray[np.int64]) -> None:
        self._sources = sources
        self.upto: NDArray[np.int64] = np.cumsum(np.full(len(sources), ROW_BYTES))

    def encode(self, start: int, stop: int) -> Any:
        from headrace.stream.windows import Encoded

        found = self._sources[start:stop]
        return Encoded(np.repeat(found, 2).astype(np.int32), 2 * np.arange(1, len(found) + 1), {})


class _Feed:
    def lane(self) -> Any:
        def read(pieces: Sequence[Any], order: NDArray[np.int64]) -> _Window:
            return _Window(np.concatenate([np.full(p.end - p.start, p.file) for p in pieces])[order])

        return read


def headrace(lanes: int | None) -> tuple[int, Iterator[int]]:
    """Lanes, and the source of each sample in the order of training."""
    from headrace.stream.manifest import Manifest, ManifestFile, Part, RowGroup
    from headrace.stream.order import default_lanes
    from headrace.stream.plan import Plan
    from headrace.stream.shards import Shards
    from headrace.stream.steps import StepReader

    groups = (RowGroup(ROWS, ROWS * ROW_BYTES),) * GROUPS
    files = tuple(ManifestFile(f"{i:03}", "", 1, "", "", groups) for i in range(SOURCES))
    rows = SOURCES * GROUPS * ROWS
    lanes = lanes or default_lanes(
        global_batch=BATCH, block=BLOCK, rows=rows, text_bytes=rows * ROW_BYTES, largest_group=ROWS * ROW_BYTES
    )
    plan = Plan(
        manifest_hash="", text_column="text", tokenizer_hash="", eos_id=0, heldout="", seed=1, block=2, grouped=True,
        lanes=lanes, global_batch=BATCH,
    )  # fmt: skip
    reader = StepReader(plan, Shards(Manifest((Part(name="sorted", files=files),))), _Feed())

    def sources() -> Iterator[int]:
        while True:
            yield from (int(s.ids[0]) for _, s in reader.next_step() if s is not None)

    return lanes, sources()


def datasets(shards: int, buffer: int) -> Iterator[int]:
    """The source of each row as `datasets` gives it, shuffled with a buffer or, with 0, not at all."""
    import datasets as library

    def generate(places: list[int]) -> Iterator[dict[str, int]]:
        for source in places:
            yield from ({"source": source} for _ in range(GROUPS * ROWS))

    # Some generators over a list are shards; a tuple in a list of one is a single shard.
    places: Any = list(range(SOURCES)) if shards > 1 else [list(range(SOURCES))]
    one = (lambda places: generate(places[0])) if shards == 1 else generate
    rows: Any = library.IterableDataset.from_generator(one, gen_kwargs={"places": places})
    rows = rows.shuffle(seed=1, buffer_size=buffer) if buffer else rows
    for row in rows:
        yield row["source"]


def ratio(sources: Iterator[int], batches: int) -> float:
    """Mean square distance of sources' counts from their mean, over that of drawing at random."""
    p = 1 / SOURCES
    found = []
    for _ in range(batches):
        counts = np.bincount(list(islice(sources, BATCH)), minlength=SOURCES)
        found.append(float(((counts - BATCH * p) ** 2).mean()) / (BATCH * p * (1 - p)))
    return float(np.mean(found))


def measure() -> dict[str, float]:
    """Every order over one epoch of the same rows."""
    batches = SOURCES * GROUPS * ROWS // BATCH
    lanes, default = headrace(None)
    return {
        "random": ratio(iter(np.random.default_rng(1).integers(0, SOURCES, batches * BATCH).tolist()), batches),
        f"headrace, default ({lanes} lanes)": ratio(default, batches),
        "headrace, --lanes 512": ratio(headrace(512)[1], batches),
        "datasets, shuffle(10_000), 100 files": ratio(datasets(100, 10_000), batches),
        "datasets, shuffle(10_000), one file": ratio(datasets(1, 10_000), batches),
        "no shuffle": ratio(datasets(1, 0), batches),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go")
    args = parser.parse_args()
    found = measure()
    if args.json:
        args.json.write_text(json.dumps({"shuffle": found}, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
