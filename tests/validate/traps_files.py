"""Traps in what holds the data: Parquet that is damaged or of another schema, folders, names, links."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.validate.traps import lines, prose, shards, trap, write


@trap(3, "no-go", "unreadable-file", said="part-003.parquet")
def truncated_parquet(folder: Path) -> None:
    shards(folder)
    path = folder / "part-003.parquet"
    path.write_bytes(path.read_bytes()[:-300])


@trap(3, "no-go", "unreadable-file", said="part-002.parquet")
def text_named_parquet(folder: Path) -> None:
    shards(folder, 2)
    (folder / "part-002.parquet").write_text("\n".join(prose(40)))


@trap(3, "no-go", "unreadable-file")
def error_page_named_parquet(folder: Path) -> None:
    (folder / "part-000.parquet").write_text("<html><body>503 Service Unavailable</body></html>")


@trap(3, "no-go", "unreadable-file")
def lfs_pointer_named_parquet(folder: Path) -> None:
    shards(folder, 2)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456\n"
    (folder / "part-002.parquet").write_text(pointer)


@trap(3, "no-go", "unreadable-file")
def file_of_no_bytes(folder: Path) -> None:
    shards(folder, 2)
    (folder / "part-002.parquet").touch()


@trap(3, "no-go", "unreadable-file")
def wrong_magic(folder: Path) -> None:
    shards(folder, 2)
    path = folder / "part-001.parquet"
    path.write_bytes(path.read_bytes()[:-4] + b"PAR9")


@trap(3, "no-go", "unreadable-file")
def footer_length_beyond_the_file(folder: Path) -> None:
    shards(folder, 2)
    path = folder / "part-001.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-8] + struct.pack("<I", len(data) * 2) + data[-4:])


@trap(3, "no-go", "unreadable-file")
def footer_of_garbage(folder: Path) -> None:
    shards(folder, 2)
    path = folder / "part-001.parquet"
    data = bytearray(path.read_bytes())
    data[-120:-8] = bytes(range(112))
    path.write_bytes(data)


@trap(3, "no-go", "unreadable-rows", said="part-001.parquet, row group 0")
def damaged_pages_below_a_sound_footer(folder: Path) -> None:
    shards(folder, 2)
    path = folder / "part-001.parquet"
    data = bytearray(path.read_bytes())
    data[4:80] = bytes(range(76))
    path.write_bytes(data)


@trap(3, "no-go", "unreadable-rows")
def a_hole_of_zeros_in_the_middle(folder: Path) -> None:
    shards(folder, 2, rows=60)
    path = folder / "part-000.parquet"
    data = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data[start : start + 400] = bytes(400)
    path.write_bytes(data)


@trap(3, "no-go", "unreadable-rows", said="UTF8")
def bytes_that_are_not_utf8(folder: Path) -> None:
    shards(folder, 2)
    raw = pa.array([*(t.encode() for t in prose(39, 200)), b"caf\xe9"], pa.binary())
    column = pa.Array.from_buffers(pa.string(), 40, raw.buffers())
    pq.write_table(pa.table({"text": column}), folder / "part-002.parquet")


@trap(3, "no-go", "missing-column", said="nearest: texts")
def column_missing_everywhere(folder: Path) -> None:
    pq.write_table(pa.table({"texts": prose(40)}), folder / "part-000.parquet")


@trap(3, "no-go", "missing-column", said="2 of 8 files")
def column_renamed_after_shard_5(folder: Path) -> None:
    shards(folder, 6)
    for i in (6, 7):
        pq.write_table(pa.table({"content": prose(40, 40 * i)}), folder / f"part-{i:03}.parquet")


@trap(3, "no-go", "missing-column", said="nearest: Text")
def column_in_capitals(folder: Path) -> None:
    pq.write_table(pa.table({"Text": prose(40)}), folder / "part-000.parquet")


@trap(3, "no-go", "wrong-type", said="1 of 8 files")
def binary_in_shard_7(folder: Path) -> None:
    shards(folder, 7)
    write(folder, 7, [t.encode() for t in prose(40, 300)], pa.binary())


@trap(3, "no-go", "wrong-type", said="int64")
def numbers_in_shard_7(folder: Path) -> None:
    shards(folder, 7)
    write(folder, 7, list(range(40)), pa.int64())


@trap(3, "no-go", "wrong-type", said="struct")
def text_within_a_struct(folder: Path) -> None:
    write(folder, 0, [{"body": t} for t in prose(40)], pa.struct([("body", pa.string())]))


@trap(3, "no-go", "wrong-type", said="list")
def lists_of_sentences(folder: Path) -> None:
    write(folder, 0, [t.split(". ") for t in prose(40)], pa.list_(pa.string()))


@trap(3, "no-go", "wrong-type", said="null")
def a_column_of_the_type_null(folder: Path) -> None:
    write(folder, 0, [None] * 40, pa.null())


@trap(3, "no-go", "wrong-type", said="int64")
def a_dictionary_of_numbers(folder: Path) -> None:
    write(folder, 0, pa.array([1, 2] * 20).dictionary_encode(), pa.dictionary(pa.int32(), pa.int64()))


@trap(3, "no-go", "missing-column", "wrong-type", "unreadable-file")
def three_kinds_of_trouble(folder: Path) -> None:
    shards(folder, 3)
    pq.write_table(pa.table({"body": prose(20, 200)}), folder / "part-003.parquet")
    write(folder, 4, [1.5] * 20, pa.float64())
    (folder / "part-005.parquet").write_bytes(b"PAR1")


@trap(2, "", said="no data file")
def an_empty_folder(folder: Path) -> None:
    pass


@trap(2, "", said="no data file")
def a_folder_of_pictures(folder: Path) -> None:
    (folder / "a.bin").write_bytes(bytes(100))


@trap(2, "", said="nearest: data")
def a_name_with_a_slip(folder: Path) -> Mapping[str, Any]:
    shards(folder, 1)
    return {"dataset_name": str(folder) + "a"}


@trap(2, "")
def a_glob_that_matches_nothing(folder: Path) -> Mapping[str, Any]:
    shards(folder, 1)
    return {"dataset_name": f"{folder}/*.jsonl"}


@trap(2, "", said="several formats")
def a_glob_over_two_formats(folder: Path) -> Mapping[str, Any]:
    shards(folder, 1)
    lines(folder / "b.jsonl", prose(20))
    return {"dataset_name": f"{folder}/*"}


@trap(2, "", said="part-002.parquet links to")
def a_link_to_nowhere(folder: Path) -> None:
    shards(folder, 2)
    (folder / "part-002.parquet").symlink_to(folder / "gone.parquet")


@trap(2, "", said="links to")
def a_link_to_itself(folder: Path) -> None:
    (folder / "part-000.parquet").symlink_to(folder / "part-000.parquet")


@trap(2, "", said="split")
def no_such_split(folder: Path) -> Mapping[str, Any]:
    shards(folder, 1)
    return {"dataset_train_split": "validation"}


@trap(2, "", said="written anew")
def a_source_that_changed_since_its_manifest(folder: Path) -> Mapping[str, Any]:
    from headrace.artifacts.files import write_json
    from headrace.stream.source import resolve
    from headrace.stream.survey import listed, survey

    shards(folder, 2)
    manifest = survey(listed([(resolve(str(folder)), "text", 1)])).manifest
    write_json(folder.parent / "manifest.json", manifest.to_json())
    size = (folder / "part-001.parquet").stat().st_size
    write(folder, 1, [t.upper() for t in prose(40, 40)])
    data = (folder / "part-001.parquet").read_bytes()
    # As large as it was: only its content tells.
    (folder / "part-001.parquet").write_bytes(data[: size - 1] + data[-1:] if len(data) >= size else data.ljust(size))
    return {"manifest": str(folder.parent / "manifest.json")}


@trap(0, "warn", "world-size", flags=["--world_size", "7", "--global_batch_size", "8", "--lanes", "8"])
def seven_ranks_for_eight_lanes(folder: Path) -> None:
    shards(folder, 4)
