"""Which columns beside the text are described: small ones of plain values, the likeliest to say something first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.errors import HeadraceError
from headrace.stream.columns import is_text
from headrace.stream.documents import WHOLE_BYTES
from headrace.stream.files import is_remote, open_file
from headrace.stream.jsonl import BLOCK_BYTES, COMPRESSED, decompressed, lines, parse
from headrace.stream.manifest import Manifest, ManifestFile, Part
from headrace.stream.retry import retrying
from headrace.validate.shown import is_name, words

log = logging.getLogger(__name__)

MOST_COLUMNS = 12
LIKELY = {"lang", "language", "languages", "perplexity", "quality", "score", "scores"}
"""Words in names of columns that are described before others."""
SMALL_SHARE, SMALL_BYTES = 0.1, 256 << 10
"""Columns are read while they are stored in so many bytes of a row group, or in this share of its text's."""
MOST_FIELDS, DEPTH = 100, 3
"""An object of more fields is keyed by data; fields of fields of fields are looked at."""
DEADLINE_S = 60.0
"""Seconds that failing reads are tried for before no columns are described: nothing is trained on them."""
CSV_BYTES = 1 << 20


def describable(manifest: Manifest, deadline_s: float = DEADLINE_S) -> tuple[str, ...]:
    """Columns beside the text that are small and may be categories or numbers, by the first file with rows.

    Of an object's fields it is the object that is named. None where that file cannot be read any more: whoever needs it
    will say so.
    """
    for part in manifest.parts:
        for file in part.files:
            look = _look_at(manifest, file, part) if file.row_groups else None
            if look is not None:
                try:
                    schema, sizes = retrying(look, f"columns of {file.uri}", deadline_s, remote=is_remote(file.uri))
                except (HeadraceError, pa.ArrowException) as error:
                    log.warning("no columns are described: %s of %s", type(error).__name__, file.path)
                    return ()
                return chosen(schema, sizes, part.text_column)
    return ()


Offer = tuple[pa.Schema, Mapping[str, int]]
"""Columns, and the bytes that each takes."""


def chosen(schema: pa.Schema, sizes: Mapping[str, int], text: str) -> tuple[str, ...]:
    """The likely columns and then the smallest, as many as may be read."""
    left = max(SMALL_BYTES, int(SMALL_SHARE * sizes.get(text, 0)))
    offered = {f.name: paths for f in schema if (paths := list(leaves_of(f.name, f.type)))}
    found: list[str] = []
    for name in sorted(offered, key=lambda n: (not any(map(is_likely, offered[n])), sizes.get(n, 0))):
        size = sizes.get(name, 0)
        once = len(schema.get_all_field_indices(name)) == 1
        if once and name not in (text, "text") and size <= left and len(found) < MOST_COLUMNS:
            found.append(name)
            left -= size
    return tuple(n for n in offered if n in found)


def is_likely(path: str) -> bool:
    """Whether a column's name says that it is about language or quality."""
    return not LIKELY.isdisjoint(words(path))


def kind(of: pa.DataType) -> str:
    """What values of an Arrow type are described as: text, flag or number; empty where they are none of these."""
    if is_text(of):
        return "text"
    if pa.types.is_boolean(of):
        return "flag"
    return "number" if pa.types.is_integer(of) or pa.types.is_floating(of) else ""


def leaves_of(path: str, of: pa.DataType, depth: int = DEPTH) -> Iterator[str]:
    """The plain values in a column, by name, `object.field` in an object; none whose names may be data."""
    if not is_name(path):
        return
    if kind(of):
        yield path
    elif pa.types.is_struct(of) and depth and of.num_fields <= MOST_FIELDS:
        for field in of:
            yield from leaves_of(f"{path}.{field.name}", field.type, depth - 1)


def leaves(path: str, values: pa.ChunkedArray, depth: int = DEPTH) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """The values of a column by name, those of an object's fields one by one, whatever they are."""
    of = values.type
    if not is_name(path):
        return
    if not pa.types.is_struct(of):
        yield path, values
    elif depth and of.num_fields <= MOST_FIELDS:
        for field, inner in zip(of, values.flatten(), strict=True):
            yield from leaves(f"{path}.{field.name}", inner, depth - 1)


def _look_at(manifest: Manifest, file: ManifestFile, part: Part) -> Callable[[], Offer] | None:
    if part.format == "parquet":
        return partial(_of_parquet, file)
    if part.format == "json" and not part.options:
        compressed = [f for f in manifest.files if f.uri.endswith(COMPRESSED)]
        # Larger ones are read in pieces, which must then have columns of the same types.
        large = any(g.text_bytes > WHOLE_BYTES for f in compressed for g in f.known)
        return None if large else partial(_of_lines, file, part.text_column)
    if part.format == "csv" and set(part.options) <= {"sep"} and not file.uri.endswith(COMPRESSED):
        return partial(_of_csv, file, str(part.options.get("sep", ",")))
    return None


def _of_parquet(file: ManifestFile) -> Offer:
    with open_file(file.uri, file.size) as raw, closing(pq.ParquetFile(raw, pre_buffer=False)) as parquet:
        schema = parquet.schema_arrow
        group = max((parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)), key=_rows)
        chunks = [group.column(i) for i in range(group.num_columns)]
    sizes: dict[str, int] = {}
    for chunk in chunks:
        path = chunk.path_in_schema
        name = path if path in schema.names else path.split(".")[0]
        sizes[name] = sizes.get(name, 0) + chunk.total_compressed_size
    return schema, sizes


def _rows(group: Any) -> int:
    return int(group.num_rows)


NOTHING: Offer = (pa.schema([]), {})


def _of_lines(file: ManifestFile, text: str) -> Offer:
    import pyarrow.json as pj

    whole = file.uri.endswith(COMPRESSED)
    with open_file(file.uri, file.size, sequential=whole) as raw:
        chunks = decompressed(raw, file.uri) if whole else iter(lambda: raw.read(BLOCK_BYTES), b"")
        block = next(lines(chunks), b"")
    options = pj.ReadOptions(use_threads=False, block_size=len(block) + 1)
    try:
        table = pj.read_json(pa.BufferReader(block), read_options=options)
        parse(block, [text, *(n for n in table.schema.names if n != text)])
    except (pa.ArrowInvalid, ValueError):
        # Columns of mixed types: nothing to describe, and nothing that training reads.
        return NOTHING
    return table.schema, {name: table.column(name).nbytes for name in table.schema.names}


def _of_csv(file: ManifestFile, separator: str) -> Offer:
    import pyarrow.csv as pc

    with open_file(file.uri, file.size, sequential=True) as raw:
        try:
            table = pc.open_csv(
                raw,
                read_options=pc.ReadOptions(use_threads=False, block_size=CSV_BYTES),
                parse_options=pc.ParseOptions(delimiter=separator, newlines_in_values=True),
            ).read_next_batch()
        except (pa.ArrowInvalid, StopIteration):  # the reader of `datasets` may know better
            return NOTHING
    return table.schema, {name: column.nbytes for name, column in zip(table.schema.names, table.columns, strict=True)}
