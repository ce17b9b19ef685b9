"""The manifest: what it says of the files, and what it notices later."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ChangedSource, DamagedData, InputError
from headrace.stream.documents import Reader
from headrace.stream.manifest import Manifest, RowGroups
from headrace.stream.source import resolve
from headrace.stream.survey import build, listed, survey
from tests.stream.conftest import Write, manifest_of

TEXTS = [f"document {i}" for i in range(7)]


def test_it_counts_what_is_there(write: Write, tmp_path: Path) -> None:
    write("a.parquet", TEXTS)
    write("b.parquet", TEXTS[:2])
    found = manifest_of(tmp_path)
    assert [[g.rows for g in f.known] for f in found.files] == [[3, 3, 1], [2]]
    assert (found.rows, found.row_groups) == (9, 4) and found.text_bytes > 9 * len(TEXTS[0])


def test_it_survives_json_and_notices_edits(write: Write, tmp_path: Path) -> None:
    write("a.parquet", TEXTS)
    found = manifest_of(tmp_path)
    value = json.loads(json.dumps(found.to_json()))
    assert Manifest.from_json(value) == found
    value["parts"][0]["files"][0]["row_groups"][0][0] = 2
    with pytest.raises(InputError, match="changed after it was written"):
        Manifest.from_json(value)
    wrongs: list[Any] = [{}, [], {"version": 1}, {**found.to_json(), "parts": None}]
    for wrong in wrongs:
        with pytest.raises(InputError):
            Manifest.from_json(wrong)


def test_the_first_rows_keep_their_places(tmp_path: Path, write: Write) -> None:
    write("a.parquet", TEXTS)
    with pq.ParquetWriter(tmp_path / "b.parquet", pa.schema([("text", pa.string())])) as writer:
        for texts in (["x"], [], ["y", "z"]):
            writer.write_table(pa.table({"text": pa.array(texts, pa.string())}))
    found = manifest_of(tmp_path)
    cut = found.first_rows(9)
    assert [[g.rows for g in f.known] for f in cut.files] == [[3, 3, 1], [1, 0, 1]]
    assert [d.text for d in Reader(cut).rows()] == [*TEXTS, "x", "y"]
    assert found.first_rows(3).rows == 3 and len(found.first_rows(3).files) == 1


def test_what_is_wrong_with_files_is_told_file_by_file(write: Write, tmp_path: Path) -> None:
    write("a.parquet", TEXTS)
    write("b.parquet", TEXTS, column="txt")
    write("c.parquet", [1, 2], kind=pa.int64())
    path = write("d.parquet", TEXTS)
    path.write_bytes(path.read_bytes()[:-10])
    (tmp_path / "e.parquet").write_bytes(b"")
    problems = {p.path: p for p in survey(listed([(resolve(str(tmp_path / "*.parquet")), "text", 1)])).problems}
    kinds = {name: p.kind for name, p in problems.items()}
    assert kinds == {
        "b.parquet": "missing-column", "c.parquet": "wrong-type", "d.parquet": "unreadable", "e.parquet": "unreadable",
    }  # fmt: skip
    assert "nearest: txt" in problems["b.parquet"].message and "int64" in problems["c.parquet"].message
    with pytest.raises(InputError, match=r"b.parquet: no column 'text'"):
        build(listed([(resolve(str(tmp_path / "*.parquet")), "text", 1)]))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_text_in_any_of_its_types(write: Write, tmp_path: Path, kind: pa.DataType) -> None:
    write("a.parquet", ["one", None, "one", "two"], kind=kind)
    assert [d.text for d in Reader(manifest_of(tmp_path)).rows()] == ["one", None, "one", "two"]


def test_no_rows_is_an_error(write: Write, tmp_path: Path) -> None:
    write("a.parquet", [])
    with pytest.raises(InputError, match="no rows"):
        manifest_of(tmp_path)


def test_a_file_written_anew_is_never_read_in_silence(write: Write, tmp_path: Path) -> None:
    path = write("a.parquet", TEXTS)
    found = manifest_of(tmp_path)
    write("a.parquet", TEXTS[::-1])
    assert path.stat().st_size == found.files[0].size  # only the footer tells
    with pytest.raises(ChangedSource, match=r"a.parquet was written anew"):
        list(Reader(found).rows())
    write("a.parquet", TEXTS * 2)
    with pytest.raises(ChangedSource, match="bytes; the manifest froze"):
        list(Reader(found).rows())
    path.unlink()
    with pytest.raises(InputError, match="cannot read"):
        list(Reader(found).rows())


def test_damaged_pages_are_told_from_a_bad_network(write: Write, tmp_path: Path) -> None:
    path = write("a.parquet", TEXTS)
    data = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(0).dictionary_page_offset
    data[start : start + 20] = bytes(range(20))
    path.write_bytes(bytes(data))
    with pytest.raises(DamagedData, match=r"row group 1 of .*a.parquet"):
        list(Reader(manifest_of(tmp_path), deadline_s=60).rows())


def test_row_groups_that_many_ask_for_are_read_once(write: Write, tmp_path: Path) -> None:
    write("a.parquet", TEXTS)
    reader = Reader(manifest_of(tmp_path))
    for _ in range(3):
        list(reader.rows())
    assert reader.row_groups_read == 3


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
@pytest.mark.parametrize("dictionary", [False, True])
@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_a_footer_cut_down_to_a_row_group_reads_the_same_rows(
    codec: str, dictionary: bool, kind: pa.DataType, tmp_path: Path
) -> None:
    texts = [None if i % 7 == 3 else f"{i % 50} text, also ünïcode 🙂" * (i % 5) for i in range(500)]
    columns = {
        "id": pa.array(range(500)),
        "text": pa.array(texts, pa.string()).cast(kind),
        "more": pa.array([["x"]] * 500),
    }
    pq.write_table(
        pa.table(columns), tmp_path / "a.parquet", compression=codec, use_dictionary=dictionary, row_group_size=90,
        data_page_size=400, version="2.6",
    )  # fmt: skip
    reader = Reader(manifest_of(tmp_path))
    assert [d.text for d in reader.rows()] == texts
    shard = reader.shards.shard(0)
    streamed = [t for g in range(6) for table in shard.batches(g, 7) for t in table.column(0).to_pylist()]
    assert streamed == texts and (shard.memory == 0) == (codec != "lz4")


def test_required_text_and_a_nested_name(tmp_path: Path) -> None:
    schema = pa.schema(
        [pa.field("a", pa.struct([("text", pa.string())])), pa.field("text", pa.string(), nullable=False)]
    )
    rows = [{"a": {"text": "inner"}, "text": t} for t in TEXTS]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "a.parquet")
    assert [d.text for d in Reader(manifest_of(tmp_path)).rows()] == TEXTS


@given(st.lists(st.tuples(*[st.integers(0, 2**62)] * 3)), st.slices(8))
def test_row_groups_are_a_sequence_in_one_table(rows: list[tuple[int, int, int]], part: slice) -> None:
    groups = RowGroups(rows)
    assert list(groups) == rows and len(groups) == len(rows) and list(groups[part]) == rows[part]
    assert [groups[i] for i in range(-len(rows), len(rows))] == [*rows, *rows]
    same = pickle.loads(pickle.dumps(groups))
    assert same == groups and hash(same) == hash(groups) and groups != rows
    assert (RowGroups([*rows, (1, 2, 3)]) == groups) is False and groups.table.nbytes == 24 * len(rows)
