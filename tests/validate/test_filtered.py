"""Columns, wanted or not: what training would stop at is a finding, what it reads is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.validate.conftest import Result, texts

Validate = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def shard(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table({"text": texts(40, int(path.stem) * 40), **columns}), path, row_group_size=10)


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))


def test_numbers_of_two_types_are_no_fault(data: Path, validate: Validate) -> None:
    shard(data / "0.parquet", score=list(range(40)))
    shard(data / "1.parquet", score=[i / 40 for i in range(40)])
    shard(data / "2.parquet", score=pa.nulls(40))
    found = validate(str(data), "--dataset_filter", "score > 0.1")
    assert found.code == 0 and found.finding("filtered-rows")["evidence"]["by_filter"] == {"score > 0.1": 46}


@pytest.mark.parametrize("name", ["1.parquet", "1.jsonl", "1.csv"])
def test_a_column_of_the_wrong_type_in_any_file_is_a_finding_with_the_file(
    name: str, data: Path, validate: Validate
) -> None:
    if name.endswith("parquet"):
        shard(data / "0.parquet", score=list(range(40)))
        shard(data / name, score=["high"] * 40)
    elif name.endswith("jsonl"):
        lines(data / "0.jsonl", [{"text": t, "score": 1} for t in texts(40)])
        lines(data / name, [{"text": t, "score": "high" if i == 30 else 1} for i, t in enumerate(texts(40, 40))])
    else:
        (data / name).write_text("\n".join(["text,score", *(f'"{t}",high' for t in texts(40))]))
    found = validate(str(data), "--dataset_filter", "score > 0")
    assert found.code == 3 and found.codes - {"no-rows"} == {"wrong-type"}, found.err
    said = found.finding("wrong-type")["message"]
    assert name in said and "--dataset_filter 'score > 0'" in said and "Traceback" not in found.err
    assert "line 31: 'score' holds str" in said if name.endswith("jsonl") else "the column 'score' holds" in said


def test_a_filter_on_the_text_is_no_fault(data: Path, validate: Validate) -> None:
    shard(data / "0.parquet")
    found = validate(str(data), "--dataset_filter", f'text != "{texts(1)[0]}"')
    assert found.code == 0 and found.finding("filtered-rows"), found.err


def test_lines_with_an_unrelated_mixed_column_are_no_fault(data: Path, validate: Validate) -> None:
    lines(data / "0.jsonl", [{"text": t, "n": i, "meta": i if i % 2 else "x"} for i, t in enumerate(texts(40))])
    found = validate(str(data), "--dataset_filter", "n > 3")
    assert found.code == 0 and found.codes == set(), found.err


def test_a_number_too_large_is_a_mistake_in_the_flag(data: Path, validate: Validate) -> None:
    shard(data / "0.parquet", score=list(range(40)))
    found = validate(str(data), "--dataset_filter", "score > 99999999999999999999999")
    assert found.code == 2 and "64 bits" in found.err and "Traceback" not in found.err


def test_a_column_that_is_there_twice_is_a_fault_only_where_it_is_wanted(data: Path, validate: Validate) -> None:
    for number, names in enumerate((["x", "text", "x"], ["text", "x", "text"])):
        table = pa.Table.from_arrays([pa.array(texts(40, 40 * number))] * 3, names=names)
        pq.write_table(table, data / f"{number}.parquet")
    assert validate(str(data / "0.parquet")).code == 0
    found = validate(str(data))
    assert found.code == 3 and found.codes == {"unreadable-file"}, found.err
    assert "1.parquet: 2 of its columns are called 'text'" in found.finding("unreadable-file")["message"]


def test_a_csv_file_whose_unrelated_column_changes_its_type_is_no_fault(data: Path, validate: Validate) -> None:
    rows = [f"the wheel turned {i} times and then stood still,{i if i < 10_000 else 'x'}" for i in range(10_100)]
    (data / "a.csv").write_text("\n".join(["text,other", *rows]))
    found = validate(str(data))
    assert found.code == 0 and found.codes == set(), found.err
