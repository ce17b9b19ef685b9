"""What a commit asks of a bucket, by the size of the model and the number of ranks.

After `train.checkpoints`: rank 0 alone uploads, from a folder that all ranks wrote to; the ledger first, then the
checkpoint, its record last; then the oldest is removed. `tests/benchmarks/test_scaling.py` holds these counts against
what a real server is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

SMALL_BYTES, PART_BYTES = 8 << 20, 100 << 20
"""Up to this Cloud Storage's client sends a file in one request; larger ones in parts, after a request for a place."""
PAGE = 1_000
"""Names that a page of a listing holds."""
PARALLEL = 4
REQUEST_S = 0.05
"""What a small request takes, about, in the region of the bucket."""
WEIGHT_BYTES, OPTIMIZER_BYTES = 4, 8
"""A parameter: float32 weights, and Adam's two moments."""
RANDOM_BYTES = 15_000
"""States of random number generators of a rank."""
CURSOR_BYTES = 45
OTHERS = {
    "config.json": 1_000, "generation_config.json": 200, "tokenizer.json": 3_500_000, "tokenizer_config.json": 1_000,
    "training_args.bin": 6_000, "trainer_state.json": 50_000, "scheduler.pt": 1_500,
}  # fmt: skip
LEASE_S = 20.0
"""Between two renewals."""


def checkpoint(parameters: float, *, world_size: int, lanes: int) -> dict[str, int]:
    """Files of a checkpoint and their bytes, where every rank holds the whole model."""
    ranks = ["rng_state.pth"] if world_size == 1 else [f"rng_state_{r}.pth" for r in range(world_size)]
    return {
        **OTHERS,
        "model.safetensors": int(parameters * WEIGHT_BYTES),
        "optimizer.pt": int(parameters * OPTIMIZER_BYTES),
        "data_state.json": 2_000 + lanes * CURSOR_BYTES,
        **dict.fromkeys(ranks, RANDOM_BYTES),
    }


def _uploads(sizes: Mapping[str, int]) -> int:
    return sum(1 if size <= SMALL_BYTES else 1 + -(-size // PART_BYTES) for size in sizes.values())


def commit(
    files: Mapping[str, int], *, ledger: Mapping[str, int], all_ledger: int, kept: int, prunes: int
) -> Counter[str]:
    """Requests of one commit: writes, reads (listings too) and deletes. kept: checkpoints there with the new one.

    files: without the record. ledger: what of it changed since, of `all_ledger` files that are there with it. prunes:
    checkpoints that are removed.
    """
    # Before each of the two uploads a listing says what is there; the last one finds what is to be removed.
    listings = max(1, -(-all_ledger // PAGE)) + 1 + -(-kept * (len(files) + 1) // PAGE)
    found = Counter(writes=_uploads(ledger) + _uploads(files) + 1, deletes=1, reads=1 + listings)
    for _ in range(prunes):
        found += Counter(reads=-(-len(files) // PAGE), deletes=1 + len(files))
    return found


def seconds(files: Mapping[str, int], requests: Mapping[str, int], *, bytes_per_s: float) -> float:
    """What a commit takes: transfers side by side, deletes one after another, and the bytes over one line."""
    small = requests["writes"] / PARALLEL + requests["deletes"] + requests["reads"]
    return small * REQUEST_S + sum(files.values()) / bytes_per_s
