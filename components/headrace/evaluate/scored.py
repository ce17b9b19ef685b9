"""`scores.parquet`: what came of each document, so that a later model can be compared with this one."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headrace.artifacts.files import write_bytes
from headrace.errors import InputError
from headrace.scoring.scores import Floats, Scores

FILE = "scores.parquet"
VERSION = 2
_KEY = b"headrace"
SCHEMA = pa.schema(
    [
        ("hash", pa.uint64()),
        ("tokens", pa.int64()),
        ("loss", pa.float64()),
        ("correct", pa.int64()),
        ("text_bytes", pa.int64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How documents were scored; only scores of equal terms may be compared.

    slice: digest; block: tokens in view; dtype: of the weights, such as bfloat16.
    """

    slice: str
    tokenizer: str
    block: int
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Sums a document, in the order of the slice: content hash, targets, nats, targets put first, UTF-8 bytes."""

    terms: Terms
    hash: NDArray[np.uint64]
    tokens: NDArray[np.int64]
    loss: Floats
    correct: NDArray[np.int64]
    text_bytes: NDArray[np.int64]

    @classmethod
    def of(cls, scores: Scores, hashes: list[int], terms: Terms) -> Scored:
        """The scores of a slice with these content hashes."""
        return cls(
            terms=terms, hash=np.array(hashes, np.uint64), tokens=scores.tokens, loss=scores.loss,
            correct=scores.correct, text_bytes=scores.bytes,
        )  # fmt: skip

    def write(self, path: Path) -> None:
        """Write it as Parquet; equal scores give equal files."""
        columns = [pa.array(getattr(self, name), kind) for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True)]
        known = {_KEY: json.dumps({"version": VERSION, **asdict(self.terms)}).encode()}
        sink = io.BytesIO()
        pq.write_table(pa.table(columns, schema=SCHEMA.with_metadata(known)), sink, compression="zstd")
        write_bytes(path, sink.getvalue())

    @classmethod
    def read(cls, data: bytes, name: str) -> Scored:
        """The scores in a file's bytes; InputError when it holds none that this Headrace reads."""
        try:
            table = pq.read_table(io.BytesIO(data))
            known = json.loads((table.schema.metadata or {})[_KEY])
            version = known.get("version")
            terms = Terms(**{field.name: known[field.name] for field in fields(Terms)}) if version == VERSION else None
            columns: dict[str, Any] = {n: table.column(n).to_numpy() for n in SCHEMA.names}
        except (AttributeError, OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise InputError(f"{name} does not hold the scores of a model: {error!r}") from error
        if terms is None:
            raise InputError(
                f"{name} has the version {version!r}; this Headrace reads version {VERSION}",
                "use the Headrace that wrote it",
            )
        return cls(terms=terms, **columns)
