"""Clean datasets of unusual kinds, which must raise no alarm."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.validate.traps import CHINESE, GERMAN, clean, lines, paragraphs, prose, shards, varied, write


@clean
def plain_prose(folder: Path) -> None:
    shards(folder)


@clean
def crlf(folder: Path) -> None:
    write(folder, 0, [t.replace("\n", "\r\n") for t in prose(80)])


@clean
def crlf_in_json_lines(folder: Path) -> None:
    lines(folder / "a.jsonl", prose(80), end="\r\n")


@clean
def byte_order_mark_at_the_start_of_a_file(folder: Path) -> None:
    data = lines(folder / "a.jsonl", prose(80))
    (folder / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + data)


@clean
def byte_order_mark_at_the_start_of_texts(folder: Path) -> None:
    write(folder, 0, ["\ufeff" + t for t in prose(80)])


@clean
def emoji(folder: Path) -> None:
    faces = ["😀", "👩\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈", "🇩🇪", "❤️", "👍🏽"]
    write(folder, 0, [f"{t} {faces[i % len(faces)]} {faces[(i * 5) % len(faces)]}" for i, t in enumerate(prose(80))])


@clean
def code(folder: Path) -> None:
    found = sorted((Path(__file__).parents[2] / "components" / "headrace" / "train").glob("*.py"))
    write(folder, 0, [p.read_text() for p in found])


@clean
def chinese(folder: Path) -> None:
    write(folder, 0, varied(CHINESE, 80, ""))


@clean
def german(folder: Path) -> None:
    write(folder, 0, varied(GERMAN, 80))


@clean
def one_huge_document(folder: Path) -> None:
    write(folder, 0, [*prose(60), "\n\n".join(paragraphs()[60:]) * 6], rows=100)


@clean
def columns_that_may_be_null_and_are_not(folder: Path) -> None:
    schema = pa.schema([pa.field("text", pa.string(), nullable=False), pa.field("id", pa.int64())])
    table = pa.table({"text": prose(80), "id": [None] * 80}, schema=schema)
    pq.write_table(table, folder / "a.parquet")


@clean
def dictionary(folder: Path) -> None:
    pq.write_table(pa.table({"text": pa.array(prose(80)).dictionary_encode()}), folder / "a.parquet")


@clean
def large_string(folder: Path) -> None:
    write(folder, 0, prose(80), pa.large_string())


@clean
def string_view(folder: Path) -> None:
    write(folder, 0, prose(80), pa.string_view())


@clean
def string_types_that_differ_between_shards(folder: Path) -> None:
    for i, kind in enumerate((pa.string(), pa.large_string(), pa.string_view())):
        write(folder, i, prose(40, 40 * i), kind)
    pq.write_table(pa.table({"text": pa.array(prose(40, 120)).dictionary_encode()}), folder / "part-003.parquet")


@clean
def other_columns_that_differ_between_shards(folder: Path) -> None:
    write(folder, 0, prose(40), score=[0.5] * 40, language=["en"] * 40)
    write(folder, 1, prose(40, 40), score=["high"] * 40)
    write(folder, 2, prose(40, 80))


@clean
def empty_row_groups(folder: Path) -> None:
    table = pa.table({"text": prose(40)})
    with pq.ParquetWriter(folder / "a.parquet", table.schema) as writer:
        writer.write_table(table.slice(0, 20))
        writer.write_table(table.slice(0, 0))
        writer.write_table(table.slice(20))
    pq.write_table(table.slice(0, 0), folder / "b.parquet")


@clean
def compressed_json_lines(folder: Path) -> None:
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines(folder / "a.jsonl.gz", prose(40))))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines(folder / "b.jsonl.gz", prose(40, 40))))


@clean
def json_lines_of_mixed_columns(folder: Path) -> None:
    rows = [
        {"text": t, "meta": {"n": i} if i % 2 else [i], "tag": i if i % 3 else "x"} for i, t in enumerate(prose(60))
    ]
    (folder / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


@clean
def links_to_files(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    shards(elsewhere, 2)
    for path in elsewhere.iterdir():
        (folder / path.name).symlink_to(path)


@clean
def numbers_that_look_like_other_numbers(folder: Path) -> None:
    texts = ["Pi is 3.14159265358979323846, and version 10.0.0.1 of 2024-01-15 has build 1234567890123456."]
    write(folder, 0, [f"{t} {texts[0]} {i}" for i, t in enumerate(prose(80))])
