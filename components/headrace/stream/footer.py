"""Footers of Parquet: found, and cut down to one row group and one column of text.

A footer of a thousand row groups of ten columns takes megabytes once it is parsed, and a segment has a hundred files.
What is kept of each is a few numbers a row group, from which a footer of that row group alone is written when it is
read: the same bytes of the file, described in fewer words (Apache Parquet's parquet.thrift, in the compact protocol).
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headrace.stream.files import TAIL_BYTES

MAGIC = b"PAR1"
_CODECS = {"UNCOMPRESSED": 0, "SNAPPY": 1, "GZIP": 2, "BROTLI": 4, "ZSTD": 6}
_BYTE_ARRAY, _UTF8, _PLAIN, _RLE_DICTIONARY = 6, 0, 0, 8
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12


class Footer(NamedTuple):
    """The pyarrow FileMetaData of a file; of the bytes it was read from the hex SHA-256, and their number."""

    metadata: Any
    digest: str
    size: int


def footer_of(raw: Any) -> Footer:
    """The footer of an open file; pyarrow's ArrowInvalid when it does not end as Parquet does."""
    size = raw.seek(0, 2)
    raw.seek(max(0, size - TAIL_BYTES))
    tail = raw.read()
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if size < 12 or tail[-4:] != MAGIC or length > size - 4:
        raise pa.ArrowInvalid("it does not end with a Parquet footer; it may be cut short")
    if length > len(tail):
        raw.seek(size - length)
        tail = raw.read(length)
    footer = tail[-length:]
    return Footer(pq.read_metadata(pa.BufferReader(footer)), hashlib.sha256(footer).hexdigest(), length)


class Chunk(NamedTuple):
    """Where the text of a row group lies, in the words of its footer. dictionary: 0 where there is none."""

    rows: int
    values: int
    uncompressed: int
    compressed: int
    data: int
    dictionary: int
    codec: int
    optional: int


def chunks_of(metadata: Any, column: str) -> NDArray[np.int64] | None:
    """Each row group's text as a `Chunk`: int64 [row groups, 8]; None where it is not text in a column of its own."""
    place = next((i for i in range(metadata.num_columns) if metadata.schema.column(i).path == column), None)
    if place is None:
        return None
    kind = metadata.schema.column(place)
    if kind.physical_type != "BYTE_ARRAY" or kind.max_repetition_level or kind.max_definition_level > 1:
        return None
    found = []
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        chunk = group.column(place)
        if chunk.compression not in _CODECS or chunk.file_path:
            return None
        dictionary = chunk.dictionary_page_offset if chunk.has_dictionary_page else 0
        found.append(
            Chunk(
                group.num_rows, chunk.num_values, chunk.total_uncompressed_size, chunk.total_compressed_size,
                chunk.data_page_offset, dictionary or 0, _CODECS[chunk.compression], kind.max_definition_level,
            )
        )  # fmt: skip
    return np.array(found, np.int64).reshape(-1, len(Chunk._fields))


def metadata_of(chunk: Chunk, column: str) -> Any:
    """The pyarrow FileMetaData of a file as if it held this row group and this column alone."""
    name = _binary(column.encode())
    root = _struct((4, _BINARY, _binary(b"schema")), (5, _I32, _int(1)))
    leaf = _struct(
        (1, _I32, _int(_BYTE_ARRAY)), (3, _I32, _int(chunk.optional)), (4, _BINARY, name), (6, _I32, _int(_UTF8))
    )
    column_metadata = _struct(
        (1, _I32, _int(_BYTE_ARRAY)),
        (2, _LIST, _list(_I32, _int(_PLAIN), _int(_RLE_DICTIONARY))),
        (3, _LIST, _list(_BINARY, name)),
        (4, _I32, _int(chunk.codec)),
        (5, _I64, _int(chunk.values)),
        (6, _I64, _int(chunk.uncompressed)),
        (7, _I64, _int(chunk.compressed)),
        (9, _I64, _int(chunk.data)),
        *(((11, _I64, _int(chunk.dictionary)),) if chunk.dictionary else ()),
    )
    column_chunk = _struct((2, _I64, _int(0)), (3, _STRUCT, column_metadata))
    row_group = _struct(
        (1, _LIST, _list(_STRUCT, column_chunk)), (2, _I64, _int(chunk.uncompressed)), (3, _I64, _int(chunk.rows))
    )
    file = _struct(
        (1, _I32, _int(2)), (2, _LIST, _list(_STRUCT, root, leaf)),
        (3, _I64, _int(chunk.rows)), (4, _LIST, _list(_STRUCT, row_group)),
    )  # fmt: skip
    return pq.read_metadata(pa.BufferReader(MAGIC + file + len(file).to_bytes(4, "little") + MAGIC))


def _varint(n: int) -> bytes:
    found = bytearray()
    while n > 0x7F:
        found.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*found, n])


def _int(n: int) -> bytes:
    return _varint(n << 1)  # zigzag of what is never negative


def _binary(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _list(kind: int, *items: bytes) -> bytes:
    return bytes([len(items) << 4 | kind]) + b"".join(items)


def _struct(*fields: tuple[int, int, bytes]) -> bytes:
    """Fields as (number, type, value), by ascending number."""
    found, last = b"", 0
    for number, kind, value in fields:
        found += bytes([(number - last) << 4 | kind]) + value
        last = number
    return found + b"\0"
