"""Traps in lines and other formats."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import zstandard

from tests.validate.traps import lines, prose, trap


@trap(3, "no-go", "unreadable-file", said="line 31")
def one_bad_line(folder: Path) -> None:
    data = lines(folder / "a.jsonl", prose(60)).splitlines(keepends=True)
    (folder / "a.jsonl").write_bytes(b"".join([*data[:30], b'{"text": "cut\n', *data[30:]]))


@trap(3, "no-go", "unreadable-file")
def a_line_that_is_not_utf8(folder: Path) -> None:
    data = lines(folder / "a.jsonl", prose(60))
    (folder / "a.jsonl").write_bytes(data + b'{"text": "caf\xe9"}\n')


@trap(3, "no-go", "wrong-type", said="line 61")
def a_number_where_text_was(folder: Path) -> None:
    data = lines(folder / "a.jsonl", prose(60))
    (folder / "a.jsonl").write_bytes(data + b'{"text": 7}\n')


@trap(3, "no-go", "wrong-type")
def objects_where_text_was(folder: Path) -> None:
    lines(folder / "a.jsonl", [{"body": t} for t in prose(20)])


@trap(3, "no-go", "missing-column", said="content")
def lines_without_the_column(folder: Path) -> None:
    lines(folder / "a.jsonl", prose(20), key="content")


@trap(3, "no-go", "unreadable-file", said="JSON array")
def a_json_array(folder: Path) -> None:
    (folder / "a.json").write_text(json.dumps([{"text": t} for t in prose(20)]))


@trap(3, "no-go", "unreadable-file")
def lines_of_bare_strings(folder: Path) -> None:
    (folder / "a.jsonl").write_text("".join(json.dumps(t) + "\n" for t in prose(20)))


@trap(3, "no-go", "unreadable-file", said="decompressed")
def gz_that_is_not_gz(folder: Path) -> None:
    lines(folder / "a.jsonl.gz", prose(60))


@trap(3, "no-go", "unreadable-file")
def gz_cut_short(folder: Path) -> None:
    data = gzip.compress(lines(folder / "a.jsonl.gz", prose(60)))
    (folder / "a.jsonl.gz").write_bytes(data[: len(data) // 2])


@trap(3, "no-go", "unreadable-file")
def zst_cut_short(folder: Path) -> None:
    data = zstandard.compress(lines(folder / "a.jsonl.zst", prose(60)))
    (folder / "a.jsonl.zst").write_bytes(data[: len(data) // 2])


@trap(3, "no-go", "unreadable-file")
def zst_with_a_broken_frame(folder: Path) -> None:
    data = bytearray(zstandard.compress(lines(folder / "a.jsonl.zst", prose(60))))
    data[20:60] = bytes(40)
    (folder / "a.jsonl.zst").write_bytes(data)


@trap(3, "no-go", "no-rows")
def lines_without_any(folder: Path) -> None:
    (folder / "a.jsonl").write_text("\n\n\n")


@trap(3, "no-go", "missing-column", said="title")
def csv_without_the_column(folder: Path) -> None:
    (folder / "a.csv").write_text("title,body\n" + "".join(f'"{i}","x"\n' for i in range(20)))


@trap(3, "no-go", "unreadable-file")
def utf_16_text(folder: Path) -> None:
    (folder / "a.txt").write_bytes("\n".join(prose(20)).encode("utf-16"))
