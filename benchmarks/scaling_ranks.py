"""All ranks of a training together: their requests over a segment, at the start, and when they go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.scaling_reads import Rank, Source
from benchmarks.scaling_source import Shape
from headrace.stream.batches import MOST_WINDOWS_AHEAD, READ_AHEAD_BYTES
from headrace.stream.order import WINDOW_BYTES, Order

NODE_RANKS = 8
"""Ranks that share a machine, and its scratch."""
BIN_S = 5.0
"""Requests are counted over so many seconds to find the most at once."""
SEED = 1


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a world size asks of the source. All sizes in bytes; rates over a segment, the start left out."""

    world_size: int
    known: bool
    lanes: int
    """Of each rank, at most."""
    depth: int
    """Windows that a lane reads ahead."""
    seconds: float
    """What the segment takes."""
    text_requests: int
    footer_requests: int
    text_bytes: int
    footer_bytes: int
    used_bytes: int
    """Text of the segment as it is stored: what would be read if nothing were read twice."""
    most_open: int
    """Files that a rank holds open."""
    peak: float
    """Most requests in some seconds, as a multiple of the mean."""
    start_requests: int
    """Asked for before the first step can be trained, or ahead of need at the same moment."""
    start_bytes: int
    start_opens: int
    """Files that are opened for it."""
    resume_requests: int
    """The same where a training goes on in the middle of the segment."""
    resume_bytes: int
    timeline: list[float]
    """Requests a second from the start on, one number each `BIN_S` seconds."""

    @property
    def requests_per_s(self) -> float:
        """Of all ranks, in the mean."""
        return (self.text_requests + self.footer_requests) / self.seconds

    @property
    def bytes_per_s(self) -> float:
        """Of all ranks, in the mean."""
        return (self.text_bytes + self.footer_bytes) / self.seconds

    @property
    def amplification(self) -> float:
        """Bytes fetched for each byte of text that is trained."""
        return (self.text_bytes + self.footer_bytes) / self.used_bytes

    @property
    def held_bytes(self) -> int:
        """Text that a rank holds in memory, at most: a row group and the windows ahead of each lane."""
        return self.lanes * (self.depth + 2) * WINDOW_BYTES

    def to_json(self) -> dict[str, Any]:
        """The fields and what follows from them."""
        derived = ("requests_per_s", "bytes_per_s", "amplification", "held_bytes")
        return asdict(self) | {name: getattr(self, name) for name in derived}


def read_ahead(lanes: int, world_size: int) -> int:
    """Windows that each lane of a rank reads ahead, as `stream.batches` has it for a plan of so many lanes."""
    return max(1, min(MOST_WINDOWS_AHEAD, READ_AHEAD_BYTES // (-(-lanes // world_size) * WINDOW_BYTES)))


def load(shape: Shape, world_size: int, *, lanes: int, known: bool, rate: float, tell: Callable[[int], object]) -> Load:
    """What a world size asks over one segment at `rate` tokens a second and rank; `tell` hears of ranks done."""
    source = shape.source(known=known)
    order = source.order(seed=SEED, lanes=lanes)
    tokens, used = _segment(order, source)
    per_rank, depth = -(-lanes // world_size), read_ahead(lanes, world_size)
    each = tokens / lanes
    seconds = tokens / (world_size * rate)
    requests, sizes = {"text": 0, "footer": 0}, {"text": 0, "footer": 0}
    start, most = [0, 0, 0], 0
    bins = np.zeros(int(seconds / BIN_S) + 1)
    nodes: dict[int, set[tuple[int, int]]] = {}
    for rank in range(world_size):
        own = range(rank, lanes, world_size)
        node = nodes.setdefault(rank // NODE_RANKS, set())
        model = Rank(order, source, own, depth=depth, node=node)
        for read in model.reads(dict.fromkeys(own, each * (1 - 1e-9))):
            if read.at == 0:
                start = [start[0] + read.requests, start[1] + read.size, start[2] + (read.kind == "footer")]
            else:
                requests[read.kind] += read.requests
                sizes[read.kind] += read.size
            bins[int(read.at * len(own) / rate / BIN_S)] += read.requests
        most = max(most, model.most_open)
        tell(1)
    again = _resumed(order, source, world_size, lanes=lanes, depth=depth, at=each / 2)
    later = bins[1:-1] if len(bins) > 2 else bins
    return Load(
        world_size=world_size, known=known, lanes=per_rank, depth=depth, seconds=seconds,
        text_requests=requests["text"], footer_requests=requests["footer"],
        text_bytes=sizes["text"], footer_bytes=sizes["footer"], used_bytes=used, most_open=most,
        peak=float(later.max() / max(later.mean(), 1e-9)),
        start_requests=start[0], start_bytes=start[1], start_opens=start[2],
        resume_requests=again[0], resume_bytes=again[1],
        timeline=(bins[:61] / BIN_S).tolist(),
    )  # fmt: skip


def _segment(order: Order, source: Source) -> tuple[float, int]:
    """Tokens of the first segment, and bytes of its text as they are stored."""
    pieces = [p for lane in range(order.lanes) for window in order.windows(0, 0, lane) for p in window]
    places = {(p.file, p.row_group) for p in pieces}
    return sum(source.tokens(p) for p in pieces), sum(source.chunk(*place) for place in places)


def _resumed(order: Order, source: Source, world_size: int, *, lanes: int, depth: int, at: float) -> tuple[int, int]:
    """Requests and bytes of all ranks at the moment when they go on with lanes that have used `at` tokens."""
    requests = size = 0
    nodes: dict[int, set[tuple[int, int]]] = {}
    for rank in range(world_size):
        own = range(rank, lanes, world_size)
        model = Rank(order, source, own, depth=depth, start=at, node=nodes.setdefault(rank // NODE_RANKS, set()))
        for read in model.reads(dict.fromkeys(own, at)):
            requests += read.requests
            size += read.size
    return requests, size
