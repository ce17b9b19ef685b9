"""How fast the stream will be beside the GPUs, and what reading it by the plan costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from headrace.stream.batches import READERS, READERS_HERE
from headrace.stream.documents import CACHED_BYTES, SPILLED_LANES, WHOLE_BYTES
from headrace.stream.files import is_remote
from headrace.stream.manifest import Manifest
from headrace.stream.plan import Plan
from headrace.stream.shards import Shards
from headrace.validate.scan import Scan

ROW_GROUP_MEMORY = 12 << 20
"""Of a larger row group no more is held (order.md, item 10)."""
LEAST_S = 0.05
"""What took less is no measurement."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What this machine did, and what a rank gets from it: tokens a second. None where too little was measured.

    read: of one reader; encoded: of one core; readers and encoders: how many of them work for a rank.
    """

    read_tokens_per_s: float | None
    encoded_tokens_per_s: float | None
    read_bytes_per_s: float | None
    readers: int
    encoders: int
    encoder: str

    @property
    def rank_tokens_per_s(self) -> float | None:
        """Tokens a second that a rank gets: the slower of reading and encoding, each with all its threads."""
        read, encoded = self.read_tokens_per_s, self.encoded_tokens_per_s
        found = [n for n in (read and self.readers * read, encoded and self.encoders * encoded) if n]
        return min(found) if found else None

    @property
    def slower(self) -> str:
        """Which of the two limits: reading or encoding."""
        read, encoded = self.read_tokens_per_s, self.encoded_tokens_per_s
        return "reading" if read and (not encoded or self.readers * read < self.encoders * encoded) else "encoding"

    def to_json(self) -> dict[str, Any]:
        """The rates as the report holds them."""
        return {**asdict(self), "rank_tokens_per_s": self.rank_tokens_per_s, "slower": self.slower}


def rates(
    manifest: Manifest, found: Scan, tokens: int, encode_s: float, *, workers: int, cores: int, encoder: str
) -> Rates:
    """The rates of a scan that counted so many tokens in `encode_s` seconds, for --dataloader_num_workers `workers`."""
    read = sum(g.text_bytes for g in found.groups)
    per_byte = float(found.tokens.sum()) / float(found.sizes.sum()) if found.sizes.sum() else 0.0
    measured = found.read_s >= LEAST_S and per_byte > 0
    remote = any(is_remote(f.uri) for f in manifest.files)
    return Rates(
        read_tokens_per_s=read * per_byte / found.read_s if measured else None,
        read_bytes_per_s=sum(g.stored for g in found.groups) / found.read_s if measured else None,
        encoded_tokens_per_s=tokens / encode_s if encode_s >= LEAST_S and tokens else None,
        readers=READERS if remote else min(READERS_HERE, cores), encoders=min(max(1, workers), cores), encoder=encoder,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What reading by the plan costs a rank, from the first segment of each source.

    openings: how often a byte of text is read an epoch, at most (row groups that lanes share are read once while they
    fit in the cache). spilled: text bytes of large row groups that go through scratch. memory: of windows, a rank.
    """

    lanes: int
    lanes_per_rank: int
    openings: float
    spilled_row_groups: int
    spilled_bytes: int
    memory_bytes: int
    largest_bytes: int
    stored_per_text_byte: float | None
    sample_amplification: float | None

    @property
    def fetched_per_text_byte(self) -> float | None:
        """Bytes fetched for a byte of text that is trained, at most."""
        return None if self.stored_per_text_byte is None else self.stored_per_text_byte * self.openings

    def to_json(self) -> dict[str, Any]:
        """The costs as the report holds them."""
        return {**asdict(self), "fetched_per_text_byte": self.fetched_per_text_byte}


def reading(plan: Plan, shards: Shards, found: Scan, world_size: int) -> Reading:
    """What reading by a plan costs each of so many ranks."""
    manifest = shards.manifest
    lanes_of: dict[tuple[int, int], int] = {}
    for order in plan.orders(shards):
        for lane in range(plan.lanes):
            for window in order.windows(0, 0, lane):
                lanes_of.update(((p.file, p.row_group), p.lanes) for p in window)
    sizes = {place: max(1, manifest.files[place[0]].known[place[1]].text_bytes) for place in lanes_of}
    spilled = [p for p, n in lanes_of.items() if sizes[p] > WHOLE_BYTES and n > SPILLED_LANES]
    opened = sum(sizes[p] * n for p, n in lanes_of.items()) - sum(sizes[p] * (lanes_of[p] - 1) for p in spilled)
    whole = sum(sizes.values())
    if whole <= CACHED_BYTES:  # all of it stays in memory
        opened = whole
    largest, per_rank = max(sizes.values(), default=0), -(-plan.lanes // world_size)
    stored, text = sum(g.stored for g in found.groups), sum(g.text_bytes for g in found.groups)
    return Reading(
        lanes=plan.lanes, lanes_per_rank=per_rank, openings=opened / max(1, whole),
        spilled_row_groups=len(spilled), spilled_bytes=sum(sizes[p] for p in spilled),
        memory_bytes=per_rank * (2 * plan.window_bytes + min(largest, ROW_GROUP_MEMORY)), largest_bytes=largest,
        stored_per_text_byte=stored / text if text else None,
        sample_amplification=stored / found.bytes if found.bytes else None,
    )  # fmt: skip
