"""Small Parquet datasets, and the shipped corpus and tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.stream.manifest import Manifest
from headrace.stream.source import resolve
from headrace.stream.survey import build, listed
from headrace.stream.tokenizer import Encoder, load_encoder

ROOT = Path(__file__).parents[2]
PYDOCS, TINY = ROOT / "examples/pydocs", ROOT / "examples/tiny-gpt2"
Write = Callable[..., Path]


def manifest_of(place: Path | str, column: str = "text", **how: str) -> Manifest:
    """The manifest of a folder, file, glob or Hub name."""
    return build(listed([(resolve(str(place), **how), column, 1)]))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a Parquet file below the test's folder."""

    def write(name: str, texts: Sequence[Any], *, column: str = "text", kind: Any = None, rows: int = 3) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table({column: pa.array(texts, kind or pa.string()), "id": list(range(len(texts)))})
        pq.write_table(table, path, row_group_size=rows)
        return path

    return write


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return load_encoder(str(TINY))


@pytest.fixture(scope="session")
def pydocs() -> Manifest:
    return manifest_of(PYDOCS)
