"""Damage that only a further look at the data meets is a finding with its place, whatever looked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.validate.conftest import texts

Validate = Callable[..., Any]
FEW = ("--heldout_fraction", "0", "--validate_rows", "20")


def damage(path: Path, row_group: int) -> None:
    """Overwrite a row group's text, below a footer that is well."""
    chunk = pq.read_metadata(path).row_group(row_group).column(0)
    with path.open("r+b") as file:
        file.seek(chunk.dictionary_page_offset or chunk.data_page_offset)
        file.write(b"\xff" * chunk.total_compressed_size)


@pytest.mark.parametrize("files", [1, 2])
def test_looking_for_copies_meets_damage_outside_the_sample(files: int, validate: Validate, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(files):
        pq.write_table(pa.table({"text": texts(2_000, 2_000 * i)}), folder / f"{i}.parquet", row_group_size=10)
    damage(folder / "0.parquet", 150)
    assert validate(str(folder), *FEW).code == 0  # the sample does not meet it
    result = validate(str(folder), *FEW, "--dedup", "dataset")
    assert result.code == 3 and "Traceback" not in result.err, result.err
    assert result.codes == ({"unreadable-rows"} if files == 2 else {"unreadable-rows", "no-rows"})
    assert result.finding("unreadable-rows")["message"].startswith(
        "1 row group cannot be read. 0.parquet, row group 150"
    )
    assert (result.folder / "duplicates.parquet").exists() == (files == 2)
