"""Shards of JSON lines, plain or compressed, as row groups: blocks of lines, or a compressed file as a whole."""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from headrace.errors import ChangedSource
from headrace.stream.columns import Compared, chosen, joined
from headrace.stream.files import ANEW, check, open_file
from headrace.stream.manifest import ManifestFile, RowGroup, RowGroups
from headrace.stream.retry import going_on
from headrace.stream.unfit import Unfit, no_column

BLOCK_BYTES = 4 << 20
"""Lines parsed at once; in a plain file also a row group, as there its place is known."""
COMPRESSED = (".gz", ".zst")
COMPRESSED_BYTES = 256 << 10
FIRST_BYTES = 256 << 10
FAST_S = 1.0
"""A read of a remote file that takes less is followed by a longer one, up to a block."""
NAMED_LINES = 1_000
_ARRAY = "it holds a JSON array, expected one object a line"


class JsonLinesShard:
    """A file whose row groups were counted once, by reading it."""

    memory = 0

    def __init__(self, file: ManifestFile, columns: Sequence[str]) -> None:
        self._file, self._columns = file, list(columns)
        self._whole = file.uri.endswith(COMPRESSED)
        with open_file(file.uri, file.size) as raw:
            check(file, raw)
        self.digest, self.row_groups = (file.footer, file.row_groups) if file.row_groups is not None else self._count()

    def fits(self) -> None:
        """Unfit when no line at the beginning has a column that filters look at; `_count` looked for the text."""
        if len(self._columns) > 1 and self.row_groups:
            names = _names(next(self._blocks(None)))
            for column in self._columns[1:]:
                if column not in names:
                    raise no_column(column, names)

    def stored(self, row_group: int, columns: int) -> int:
        """Bytes of the lines of a row group, whatever columns are wanted of them."""
        ends = [*(g.offset for g in self.row_groups[1:]), self._file.size]
        return self._file.size if self._whole else ends[row_group] - self.row_groups[row_group].offset

    def close(self) -> None:
        """Nothing stays open."""

    def table(self, row_group: int) -> pa.Table:
        """One row group."""
        return joined(list(self.batches(row_group, 0)))

    def batches(self, row_group: int, rows: int) -> Iterator[pa.Table]:
        """One row group front to back, a block of lines at a time."""
        expected, found, line = self.row_groups[row_group], 0, 1
        prefix = f"row group {row_group}, " if expected.offset else ""
        for block in self._blocks(row_group):
            table = parse(block, self._columns, line, prefix)
            found, line = found + table.num_rows, line + block.count(b"\n")
            yield table
        if found < expected.rows:
            message = f"{self._file.uri} holds {found} rows where the manifest froze {expected.rows}"
            raise ChangedSource(message, ANEW)

    def _blocks(self, row_group: int | None) -> Iterator[bytes]:
        """The lines of a row group, or of the whole file."""
        with open_file(self._file.uri, self._file.size) as raw:
            if self._whole:
                yield from lines(decompressed(front_to_back(raw), self._file.uri))
            elif row_group is None:
                yield from lines(front_to_back(raw))
            else:
                offsets = [*(g.offset for g in self.row_groups), self._file.size]
                raw.seek(offsets[row_group])
                yield raw.read(offsets[row_group + 1] - offsets[row_group])

    def _count(self) -> tuple[str, RowGroups]:
        """Row groups and a digest of all lines, from reading the whole file; Unfit when it is not what it should be."""
        digest, groups, offset, line, there = hashlib.sha256(), [], 0, 1, False
        names: tuple[str, ...] = ()
        for block in self._blocks(None):
            digest.update(block)
            table = parse(block, self._columns, line)
            text = table.column(0)
            there = there or text.null_count < len(text)
            names = names or _names(block)
            groups.append(RowGroup(table.num_rows, max(1, pc.sum(pc.binary_length(text)).as_py() or 0), offset))
            offset, line = offset + len(block), line + block.count(b"\n")
        if any(g.rows for g in groups) and not there and self._columns[0] not in names:
            raise no_column(self._columns[0], names)
        if self._whole and groups:
            groups = [RowGroup(sum(g.rows for g in groups), sum(g.text_bytes for g in groups))]
        return digest.hexdigest(), RowGroups(groups)


def front_to_back(raw: Any) -> Iterator[bytes]:
    """A file in blocks of BLOCK_BYTES, from reads that are short where it comes slowly: each is a sign of life."""
    at_once, found = FIRST_BYTES, [b""]
    while found:
        found, size = [], 0
        while size < BLOCK_BYTES:
            began = time.monotonic()
            data = raw.read(min(at_once, BLOCK_BYTES - size))
            going_on()
            if not data:
                break
            found.append(data)
            size += len(data)
            fast = time.monotonic() - began < FAST_S
            at_once = min(BLOCK_BYTES, 4 * at_once) if fast else max(FIRST_BYTES, at_once // 4)
        if found:
            yield b"".join(found)


def decompressed(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """What a compressed file holds, by the ending of its name; Unfit where it is damaged or cut short."""
    import zstandard

    def fresh() -> Any:
        return zlib.decompressobj(wbits=31) if name.endswith(".gz") else zstandard.ZstdDecompressor().decompressobj()

    stream, begun = fresh(), False
    try:
        for data in (b[i : i + COMPRESSED_BYTES] for b in blocks for i in range(0, len(b), COMPRESSED_BYTES)):
            while data:
                yield stream.decompress(data)
                begun, data = not stream.eof, stream.unused_data
                if stream.eof:  # members and frames may follow one another
                    stream = fresh()
    except (zlib.error, zstandard.ZstdError) as error:
        raise Unfit("unreadable", f"it cannot be decompressed: {error}") from error
    if begun:
        raise Unfit("unreadable", "it is cut short: the compressed stream does not end")


def lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines, about BLOCK_BYTES at a time; a longer line comes whole."""
    rest: list[bytes] = []
    size = 0
    for data in chunks:
        cut = data.rfind(b"\n") + 1
        if not cut or size + cut < BLOCK_BYTES // 2:
            rest.append(data)
            size += len(data)
            continue
        yield b"".join([*rest, data[:cut]])
        rest, size = [data[cut:]], len(data) - cut
    if any(rest):
        yield b"".join(rest)


def parse(block: bytes, columns: Sequence[str], line: int = 1, prefix: str = "") -> pa.Table:
    """The columns of some lines, absent ones null; Unfit names the first, counted from `line`, that is no object.

    What others hold does not matter, unless a column is wanted of which the type is not known.
    """
    kinds = {c: c.kind for c in columns if isinstance(c, Compared)} | {columns[0]: pa.string()}
    explicit = pa.schema([(str(c), kind) for c, kind in kinds.items()])
    table = explicit.empty_table()
    if block.strip():
        others = "infer" if any(c not in kinds for c in columns) else "ignore"
        try:
            table = pj.read_json(
                pa.BufferReader(block),
                read_options=pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
                parse_options=pj.ParseOptions(explicit_schema=explicit, unexpected_field_behavior=others),
            )
            table.validate(full=True)
        except pa.ArrowInvalid as error:
            raise _wrong_line(block, columns, line, prefix, error) from error
    for column in dict.fromkeys(columns):
        if column not in table.schema.names:
            table = table.append_column(str(column), pa.nulls(table.num_rows))
    return chosen(table, columns)


def _wrong_line(block: bytes, columns: Sequence[str], line: int, prefix: str, error: Exception) -> Unfit:
    for number, text in enumerate(block.split(b"\n"), line):
        if not text.strip():
            continue
        where = f"{prefix}line {number}"
        try:
            value = json.loads(text)
            text.decode()
        except (ValueError, RecursionError) as wrong:
            if number == 1 and text.lstrip().startswith(b"["):
                return Unfit("unreadable", _ARRAY)
            return Unfit("unreadable", f"{where} is not JSON: {wrong}")
        if isinstance(value, list) and number == 1:
            return Unfit("unreadable", _ARRAY)
        if not isinstance(value, dict):
            return Unfit("unreadable", f"{where} holds {type(value).__name__}, expected an object")
        found = value.get(columns[0])
        if found is not None and not isinstance(found, str):
            message = f"{where}: {columns[0]!r} holds {type(found).__name__}, expected text"
            return Unfit("wrong-type", message, tuple(map(str, value)))
        for column in columns[1:]:
            found = value.get(column)
            if isinstance(column, Compared) and found is not None and not column.takes(found):
                return column.wrong(type(found).__name__, where)
    first = str(error).strip().splitlines()[0]
    return Unfit("unreadable", f"{prefix}lines from {line} on cannot be parsed: {first}")


def _names(block: bytes) -> tuple[str, ...]:
    """Keys of the first lines."""
    found: dict[str, None] = {}
    for line in block.split(b"\n", NAMED_LINES)[:NAMED_LINES]:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        found |= dict.fromkeys(map(str, value) if isinstance(value, dict) else ())
    return tuple(found)
