"""What checkpoints take: how many, bytes, and requests to a store."""

from __future__ import annotations

import math
from dataclasses import dataclass

from headrace.forecast.memory import Range

SMALL_BYTES = 20_000
"""A checkpoint's small files without the tokenizer: configuration, scheduler, arguments, states."""
RNG_BYTES = 15_000
"""A rank's random state."""
FILES = 9
"""Files of a checkpoint with --save_only_model, the commit record among them; optimizer, scheduler and a random state a
rank come to them."""

ENDS = 30
"""Requests to a store at the start and the end of a run: looks, the lease, the final model; counted on a server."""
SLACK = 1.2
"""Requests that renew the lease or are tried again: an assumption for the upper end."""


@dataclass(frozen=True, kw_only=True)
class Commits:
    """checkpoint_bytes: of one; scheduled: by steps or epochs; by_time: by --commit_every_s between those."""

    checkpoint_bytes: int
    model_bytes: int
    files: int
    scheduled: int
    by_time: Range
    kept: int
    disk_bytes: int
    """What is left at the end: the checkpoints that are kept, and the final model."""
    written_bytes: Range
    """Written, and uploaded where there is a store, over the whole run."""
    store_requests: Range
    """To a store that is not the output folder: uploads, looks and lists of commits, deletions of pruned ones."""


def estimate(
    *,
    model_bytes: int,
    optimizer_bytes: int,
    tokenizer_bytes: int,
    ranks: int,
    steps: int,
    every: int | None,
    keep: int | None,
    commit_every_s: float,
    step_s: Range,
    only_model: bool = False,
) -> Commits:
    """The commits of a run. every: steps between scheduled checkpoints, the last step being one; None for none."""
    states = 0 if only_model else optimizer_bytes + RNG_BYTES * ranks
    size = model_bytes + states + tokenizer_bytes + SMALL_BYTES
    files = FILES + (0 if only_model else 2 + ranks)
    scheduled = 0 if every is None else math.ceil(steps / every)
    by_time = Range(0.0, 0.0)
    if every is not None and commit_every_s > 0:
        by_time = Range(*(_by_time(steps, every, s, commit_every_s) for s in step_s))
    kept = scheduled if not keep or keep < 1 else min(keep, scheduled)
    commits = Range(scheduled + by_time.low, scheduled + by_time.high)
    final = model_bytes + tokenizer_bytes + SMALL_BYTES
    # Of a commit: its files, two files of the ledger a rank, a look, a deletion, two lists. Pruning one deletes each
    # of its files, after a list.
    a_commit, a_pruning = files + 2 * ranks + 4, files + 1
    low, high = (ENDS + c * a_commit + (c - kept) * a_pruning for c in commits)
    return Commits(
        checkpoint_bytes=size, model_bytes=model_bytes, files=files, scheduled=scheduled, by_time=by_time, kept=kept,
        disk_bytes=kept * size + final,
        written_bytes=Range(commits.low * size + final, commits.high * size + final),
        store_requests=Range(low, SLACK * high),
    )  # fmt: skip


def _by_time(steps: int, every: int, step_s: float, commit_every_s: float) -> float:
    """Commits by time: the clock starts anew at each commit, and none is due before so many seconds have passed."""
    spaced = math.floor(commit_every_s / step_s) + 1
    stretches, rest = divmod(steps, every)
    return float(stretches * ((every - 1) // spaced) + (max(0, rest - 1) // spaced if rest else 0))
