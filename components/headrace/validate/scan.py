"""Rows chosen from the whole stream, measured: the only part of validation that reads documents."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headrace.stream.filters import Filter, first_refusal
from headrace.stream.heldout import content_hash, is_blank
from headrace.stream.manifest import Manifest
from headrace.validate import signs
from headrace.validate.counting import TokenCounter
from headrace.validate.damage import DamagedRows, SampleReader, Unreadable
from headrace.validate.sample import Portion
from headrace.validate.seen import Examples, Measure, Place, Seen


@dataclass(frozen=True, kw_only=True)
class GroupSums:
    """What the rows looked at in one row group hold. text_bytes: of the whole group, as its footer states them."""

    rows: int
    looked: int
    text_bytes: int
    documents: int
    tokens: int
    """End-of-text tokens included, one a document."""
    stored: int = 0
    """Bytes of the file that reading the whole group took."""


@dataclass
class Scan:
    """The rows looked at. The arrays hold one value a document, in the order of reading.

    complete: every row was; stopped: the time ran out before. read_s: seconds that reading took, without encoding.
    """

    complete: bool
    stopped: bool = False
    rows: int = 0
    bytes: int = 0
    nulls: int = 0
    blanks: int = 0
    duplicates: int = 0
    read_s: float = 0.0
    cut: int = 0
    """Documents so long that their tokens were counted in pieces, give or take a few."""
    damaged: dict[str, int] = field(default_factory=lambda: {"control": 0, "replacement": 0, "mojibake": 0, "any": 0})
    examples: Examples = field(default_factory=Examples)
    filtered: dict[str, int] = field(default_factory=dict)
    """Rows that a filter refuses, by the filter."""
    unreadable: list[Unreadable] = field(default_factory=list)
    groups: list[GroupSums] = field(default_factory=list)
    longest: Place | None = None
    """Where the document of most tokens lies."""
    tokens: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))

    def damage(self, place: Unreadable) -> None:
        """Note a damaged row group, once."""
        if all((p.path, p.row_group) != (place.path, place.row_group) for p in self.unreadable):
            self.unreadable.append(place)


def scan(
    reader: SampleReader,
    counter: TokenCounter,
    portions: Sequence[Portion],
    filters: Sequence[Filter] = (),
    measures: Sequence[Measure] = (),
    *,
    complete: bool,
    text_bytes: int,
    seconds: float = math.inf,
    progress: Callable[[int, int], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Scan:
    """Read and measure the portions until `seconds` are over, and `text_bytes` were looked at if they are a sample."""
    found, began = Scan(complete), clock()
    seen: set[int] = set()
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]] = []
    total, done = sum(p.take for p in portions), 0
    most = 0
    for portion in portions:
        if not complete and found.bytes >= text_bytes:
            break
        if done and clock() - began >= seconds:
            found.stopped, found.complete = True, False
            break
        started = clock()
        try:
            rows = reader.read(portion)
            stored = reader.stored(portion)
        except DamagedRows as error:
            found.damage(error.place)
        else:
            found.read_s += clock() - started
            looked = _look(found, reader.manifest, portion, rows, filters, seen)
            parts.append(_count(found, reader.manifest, portion, looked, counter, stored))
            if (tokens := parts[-1][0]).size and (longest := int(tokens.max())) > most:
                most, found.longest = longest, looked.places[int(tokens.argmax())]
            for measure in measures:
                measure.look(looked)
        done += portion.take
        if progress is not None:
            progress(done, total)
    found.cut = counter.cut
    if parts:
        tokens_of, sizes, hashes = zip(*parts, strict=True)
        found.tokens, found.sizes = np.concatenate(tokens_of), np.concatenate(sizes)
        found.hashes = np.concatenate(hashes)
    return found


def _look(
    found: Scan, manifest: Manifest, portion: Portion, rows: pa.Table, filters: Sequence[Filter], seen: set[int]
) -> Seen:
    """Count the rows by what they are; those that are documents."""
    path = manifest.label(portion.file)
    documents: list[str] = []
    places: list[Place] = []
    hashes: list[int] = []
    refused = first_refusal(filters, rows).tolist()
    for number, text, why in zip(portion.numbers().tolist(), rows.column(0).to_pylist(), refused, strict=True):
        place = Place(portion.file, portion.row_group, number, path)
        found.rows += 1
        if text is None:
            found.nulls += 1
            found.examples.note("null", place)
        elif is_blank(text):
            found.blanks += 1
            found.examples.note("blank", place)
        elif why:
            name = str(filters[why - 1])
            found.filtered[name] = found.filtered.get(name, 0) + 1
        else:
            digest = content_hash(text)
            if digest in seen:
                found.duplicates += 1
                found.examples.note("duplicate", place)
            seen.add(digest)
            documents.append(text)
            places.append(place)
            hashes.append(digest)
            _look_for_damage(found, text, place)
    return Seen(
        file=portion.file, path=path, table=rows, documents=documents, places=places,
        hashes=np.array(hashes, np.uint64),
    )  # fmt: skip


def _count(
    found: Scan, manifest: Manifest, portion: Portion, seen: Seen, counter: TokenCounter, stored: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]:
    """Tokens, bytes and hashes of the documents; what they add up to is noted as the row group's."""
    sizes = np.array([len(d.encode("utf-8", "surrogatepass")) for d in seen.documents], np.int64)
    tokens = counter.lengths(seen.documents, sizes)
    found.bytes += int(sizes.sum())
    found.groups.append(
        GroupSums(
            rows=portion.rows,
            looked=portion.take,
            text_bytes=manifest.files[portion.file].known[portion.row_group].text_bytes,
            documents=int((tokens > 0).sum()),
            tokens=int(tokens.sum() + (tokens > 0).sum()),
            stored=stored,
        )
    )
    return tokens, sizes, seen.hashes


def _look_for_damage(found: Scan, text: str, place: Place) -> None:
    damage = {
        "control": signs.has_control(text),
        "replacement": signs.has_replacement(text),
        "mojibake": signs.has_mojibake(text),
    }
    for kind, there in damage.items():
        if there:
            found.damaged[kind] += 1
            found.examples.note(kind, place)
    found.damaged["any"] += any(damage.values())
