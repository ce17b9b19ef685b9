"""Reading: large row groups in bounded memory, each opened once a lane, whatever the format."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import ChangedSource, InputError
from headrace.stream import documents, parquet, shards
from headrace.stream import survey as surveys
from headrace.stream.documents import Reader
from headrace.stream.feed import TextFeed
from headrace.stream.jsonl import lines, parse
from headrace.stream.order import Piece
from headrace.stream.source import resolve
from headrace.stream.steps import StepReader
from headrace.stream.survey import build, listed, survey
from headrace.stream.tokenizer import Encoder
from headrace.stream.unfit import Unfit
from tests.stream.conftest import Write, manifest_of
from tests.stream.oracle import make_plan

TEXTS = [f"{i} " + "word " * (i % 40) for i in range(300)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups count as large from 1,000 bytes of text on."""
    monkeypatch.setattr(documents, "WHOLE_BYTES", 1_000)
    monkeypatch.setattr(documents, "STREAMED_BYTES", 300)


def tokens(reader: Reader, encoder: Encoder, steps: int = 40, **changed: Any) -> list[list[int]]:
    """Samples of an order of small windows, by their numbers."""
    plan = make_plan(**{"lanes": 5, "global_batch": 4, "block": 16, "window_rows": 9, "eos_id": 0, **changed})
    stream = StepReader(plan, reader.shards, TextFeed(reader, encoder))
    return [s.ids.tolist() for _ in range(steps) for _, s in stream.next_step() if s is not None]


def test_a_large_row_group_gives_the_same_rows_streamed_and_spilled(
    write: Write, tmp_path: Path, encoder: Encoder, small: None
) -> None:
    write("a.parquet", TEXTS, rows=150)
    manifest = manifest_of(tmp_path)
    reader = Reader(manifest, scratch=tmp_path / "scratch")
    for lanes in (1, 3):  # streamed, spilled
        run = reader.run()
        pieces = [Piece(0, 1, a, b, lanes) for a, b in ((0, 7), (7, 8), (20, 90), (90, 150))]
        found = [run.read([p]).column(0).to_pylist() for p in pieces]
        assert found == [TEXTS[150 + p.start : 150 + p.end] for p in pieces]
    assert [p.name for p in (tmp_path / "scratch").rglob("*.arrow")] == ["0-1.arrow"]
    with pytest.MonkeyPatch.context() as whole:
        whole.setattr(documents, "WHOLE_BYTES", 1 << 20)
        expected = tokens(Reader(manifest), encoder)
    assert tokens(reader, encoder) == expected


def test_scratch_is_removed_when_nobody_reads_it_any_more(tmp_path: Path, write: Write) -> None:
    write("data/a.parquet", TEXTS, rows=300)
    script = f"""
from pathlib import Path
from headrace.stream import documents
from headrace.stream.order import Piece
from tests.stream.conftest import manifest_of
documents.WHOLE_BYTES = 1
reader = documents.Reader(manifest_of({str(tmp_path / "data")!r}), scratch=Path({str(tmp_path / "s")!r}))
print(reader.run().read([Piece(0, 0, 5, 7, 9)]).num_rows, len(list(Path({str(tmp_path / "s")!r}).rglob("*.arrow"))))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "2 1\n" and not list((tmp_path / "s").rglob("*.arrow"))


class Counted(io.BytesIO):
    """A file that notes which of its bytes were read."""

    def __init__(self, path: str, reads: list[tuple[str, int, int]]) -> None:
        super().__init__(Path(path).read_bytes())
        self._path, self._reads = path, reads

    def read(self, size: int | None = -1) -> bytes:
        start = self.tell()
        data = super().read(size)
        self._reads.append((self._path, start, start + len(data)))
        return data


def test_i7_row_groups_are_opened_once_by_each_lane_that_has_rows_of_them(
    write: Write, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in what is read of the files, on every rank of several world sizes."""
    monkeypatch.setattr(documents, "CACHED_BYTES", 0)  # nothing is shared: as if every lane had a node of its own
    for name in "abcdef":
        write(f"{name}.parquet", [f"{name}{t}" for t in TEXTS[:90]], rows=15)
    manifest = manifest_of(tmp_path)
    places: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for file in manifest.files:
        metadata = pq.read_metadata(file.uri)
        for i in range(metadata.num_row_groups):
            column = metadata.row_group(i).column(0)
            places[file.uri].append((column.dictionary_page_offset, column.total_compressed_size))
    plan = make_plan(lanes=7, global_batch=7, block=16, window_rows=4, segment_files=3, eos_id=0)
    for world_size in (1, 2, 7):
        opened = 0
        for rank in range(world_size):
            reads: list[tuple[str, int, int]] = []
            monkeypatch.setattr(parquet, "open_file", lambda uri, size=None, reads=reads: Counted(uri, reads))
            reader = Reader(manifest)
            stream = StepReader(
                plan, reader.shards, TextFeed(reader, encoder), world_size=world_size, rank=rank, epochs=1
            )
            while not stream.ended:
                stream.next_step()
            # A read that reaches the end of its file is of the footer.
            data = [(path, start, end) for path, start, end in reads if end < Path(path).stat().st_size]
            opened += sum(any(start <= o < end for o, _ in places[path]) for path, start, end in data)
        assert manifest.row_groups <= opened <= manifest.row_groups + 2 * (plan.lanes - 1)  # two segments


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".json"])
def test_json_lines_give_the_tokens_that_parquet_gives(
    ending: str, write: Write, tmp_path: Path, encoder: Encoder, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.stream.jsonl.BLOCK_BYTES", 1_500)
    rows = [{"id": i, "text": t, "meta": {"a": [i]}} for i, t in enumerate(TEXTS)]
    rows[7]["text"] = None
    del rows[8]["text"]
    data = "".join(
        json.dumps(r, ensure_ascii=bool(i % 2)) + ("\n\n" if i % 50 == 0 else "\n") for i, r in enumerate(rows)
    )
    path = tmp_path / "j" / f"a{ending}"
    path.parent.mkdir()
    raw = data.rstrip().encode()
    if ending.endswith(".gz"):  # two members, as tools that append write them
        raw = gzip.compress(raw[:2_000]) + gzip.compress(raw[2_000:])
    elif ending.endswith(".zst"):
        raw = zstandard.compress(raw[:2_000]) + zstandard.compress(raw[2_000:])
    path.write_bytes(raw)
    manifest = manifest_of(path.parent)
    texts = [r.get("text") for r in rows]
    assert manifest.rows == 300 and [d.text for d in Reader(manifest).rows()] == texts
    assert (manifest.row_groups > 5) == (
        ending in (".jsonl", ".json")
    )  # their places in a compressed file are not known
    # The same rows in row groups of the same sizes are in the same order, in Parquet or not.
    with pq.ParquetWriter(tmp_path / "p.parquet", pa.schema([("text", pa.string())])) as writer:
        start = 0
        for group in manifest.files[0].known:
            writer.write_table(pa.table({"text": pa.array(texts[start : start + group.rows], pa.string())}))
            start += group.rows
    there = manifest_of(tmp_path / "p.parquet")
    sized = there.mapped(lambda _, f: type(f)(f.path, f.uri, f.size, f.etag, f.footer, manifest.files[0].known))
    assert tokens(Reader(manifest), encoder) == tokens(Reader(sized), encoder)


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (b'{"text": "a"}\n{"text": }\n', "unreadable", "line 2 is not JSON"),
        (b'{"text": "a"}\n\n[1]\n', "unreadable", "line 3 holds list"),
        (b'[{"text": "a"}]', "unreadable", "JSON array"),
        (b'{"text": "a"}\n{"text": 3}\n', "wrong-type", "line 2: 'text' holds int"),
        (b'{"txt": "a"}\n', "missing-column", "nearest: txt"),
        (b'{"text": "\xff"}\n', "unreadable", "line 1 is not JSON"),
    ],
)
def test_a_wrong_line_is_named(content: bytes, kind: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    (problem,) = survey(listed([(resolve(str(tmp_path)), "text", 1)])).problems
    assert problem.kind == kind and said in problem.message
    with pytest.raises(Unfit, match=r"a\.jsonl: "):
        manifest_of(tmp_path)


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_compressed_file_that_is_cut_short_is_never_taken_for_a_short_one(ending: str, tmp_path: Path) -> None:
    data = "".join(json.dumps({"text": t}) + "\n" for t in TEXTS).encode()
    packed = gzip.compress(data) if ending == "gz" else zstandard.compress(data)
    path = tmp_path / f"a.jsonl.{ending}"
    path.write_bytes(packed[:-20])
    with pytest.raises(Unfit, match="cut short"):
        manifest_of(path)
    path.write_bytes(packed[:50] + bytes(20) + packed[70:])
    with pytest.raises(Unfit, match=r"decompressed|not JSON|cut short"):
        manifest_of(path)


@given(st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"")), max_size=30), st.integers(1, 9))
def test_blocks_are_whole_lines_and_nothing_is_lost(texts: list[bytes], size: int) -> None:
    data = b"\n".join(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headrace.stream.jsonl.BLOCK_BYTES", 8)
        found = list(lines(data[i : i + size] for i in range(0, len(data), size)))
    assert b"".join(found) == data and all(b.endswith(b"\n") for b in found[:-1])


@settings(max_examples=60)
@given(st.lists(st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=20)), min_size=1, max_size=20))
def test_a_block_is_parsed_to_the_texts_that_python_finds(texts: list[str | None]) -> None:
    block = "".join(json.dumps({"other": 1, "text": t}) + "\n" for t in texts).encode()
    assert parse(block, ["text"]).column(0).to_pylist() == texts


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a.arrow"])
def test_other_formats_come_from_a_child_process(name: str, tmp_path: Path, encoder: Encoder) -> None:
    table = pa.table({"text": [t.replace("word", 'w"d,') for t in TEXTS]})
    path = tmp_path / name
    if name == "a.arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    elif name == "a.txt":
        path.write_text("\n".join(table["text"].to_pylist()) + "\n")
    else:
        table.to_pandas().to_csv(path, index=False, sep="\t" if name == "a.tsv" else ",")
    manifest = manifest_of(path)
    assert [d.text for d in Reader(manifest).rows()] == table["text"].to_pylist()
    assert len(tokens(Reader(manifest), encoder, steps=5)) == 20
    with pytest.raises(Unfit, match="no column 'body'"):
        manifest_of(path, "body")


def test_a_row_group_that_shrank_is_a_changed_source(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    manifest = manifest_of(path)
    whole = manifest.mapped(lambda _, f: type(f)(f.path, f.uri, f.size, "", f.footer, f.row_groups))
    lines_ = path.read_text().splitlines()
    path.write_text("\n".join([*lines_[:-2], lines_[-2] + " " * (len(lines_[-1]) + 1)]) + "\n")
    with pytest.raises(ChangedSource, match="holds 299 rows where the manifest froze 300"):
        list(Reader(whole).rows())
    with pytest.raises(ChangedSource, match="written anew"):
        list(Reader(manifest).rows())


def test_the_footers_of_a_long_listing_are_read_a_segment_at_a_time(
    write: Write, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(40):
        write(f"{i:02}.parquet", [f"{i} {t}" for t in TEXTS[:12]])
    known = manifest_of(tmp_path)
    monkeypatch.setattr(surveys, "SEGMENT_FILES", 4)
    monkeypatch.setattr(shards, "SEGMENT_FILES", 4)
    lazy = build(listed([(resolve(str(tmp_path)), "text", 1)]))
    assert not lazy.known and known.known and lazy.hash == known.hash
    read: list[str] = []
    real = parquet.ParquetShard.__init__

    def opened(self: Any, file: Any, columns: Any) -> None:
        read.append(file.path)
        real(self, file, columns)

    monkeypatch.setattr(parquet.ParquetShard, "__init__", opened)
    reader = Reader(lazy)
    first = tokens(reader, encoder, steps=3, segment_files=4)
    assert len(set(read)) <= 8  # a segment, and the next one ahead of need
    assert first == tokens(Reader(known), encoder, steps=3, segment_files=4)
    assert tokens(Reader(lazy), encoder, 120, segment_files=4) == tokens(Reader(known), encoder, 120, segment_files=4)


def test_a_file_of_a_long_listing_that_is_unfit_is_named_when_its_segment_comes(
    write: Write, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveys, "SEGMENT_FILES", 4)
    monkeypatch.setattr(shards, "SEGMENT_FILES", 4)
    for i in range(8):
        write(f"{i}.parquet", TEXTS[:12], column="text" if i < 7 else "body")
    reader = Reader(build(listed([(resolve(str(tmp_path)), "text", 1)])))
    with pytest.raises(InputError, match=r"7\.parquet: no column 'text'"):
        tokens(reader, encoder, 200, segment_files=4)


def test_permuted_windows_hold_every_row_once(write: Write, tmp_path: Path, encoder: Encoder, small: None) -> None:
    write("a.parquet", TEXTS, rows=100)
    reader = Reader(manifest_of(tmp_path), scratch=tmp_path / "s")
    read = TextFeed(reader, encoder).lane()
    order = np.random.default_rng(1).permutation(100)
    window = read([Piece(0, 1, 0, 100, 1)], order)
    encoded = window.encode(0, 100)
    texts = [encoder.decode(encoded.ids[a : b - 1]) for a, b in zip([0, *encoded.ends], encoded.ends, strict=False)]
    assert texts == [TEXTS[100 + i] for i in order]
