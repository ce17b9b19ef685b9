"""The held-out slice: chosen by content, bounded, and never trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from headrace.errors import InputError
from headrace.stream.documents import Reader
from headrace.stream.feed import Choice, TextFeed
from headrace.stream.heldout import HeldOut, content_hash, make
from headrace.stream.manifest import Manifest
from headrace.stream.order import Piece
from headrace.stream.tokenizer import Encoder
from tests.stream.conftest import Write, manifest_of

TEXTS = [f"document number {i}, of some length" for i in range(40)]


def opened(folder: Path) -> tuple[Manifest, Reader]:
    manifest = manifest_of(folder)
    return manifest, Reader(manifest)


def test_the_documents_of_lowest_hash(write: Write, tmp_path: Path) -> None:
    write("a.parquet", [*TEXTS, None, "", " \n", TEXTS[0]])
    found = make(opened(tmp_path)[1], fraction=0.1)
    lowest = sorted(TEXTS, key=content_hash)[:5]  # 4.4, rounded up
    assert found.texts == lowest and found.hashes == set(map(content_hash, lowest))
    assert make(opened(tmp_path)[1], fraction=0.1, limit=2).texts == lowest[:2]
    assert len(make(opened(tmp_path)[1], fraction=0.99).texts) == 40  # blanks and copies never


def test_at_most_64_row_groups_are_read(write: Write, tmp_path: Path) -> None:
    write("a.parquet", TEXTS * 5, rows=1)
    reader = opened(tmp_path)[1]
    make(reader, fraction=0.01)
    assert reader.row_groups_read == 64


def test_copies_cannot_leak_into_training(write: Write, tmp_path: Path, encoder: Encoder) -> None:
    write("a.parquet", [*TEXTS, *TEXTS])
    manifest, reader = opened(tmp_path)
    heldout = make(reader, fraction=0.1)
    read = TextFeed(reader, encoder, Choice(heldout=heldout.hashes)).lane()
    groups = [Piece(0, g, 0, n.rows) for g, n in enumerate(manifest.files[0].known)]
    encoded = [read([g], np.arange(g.end)[::-1]).encode(0, g.end) for g in groups]
    assert sum(e.dropped.get("heldout", 0) for e in encoded) == 2 * len(heldout.texts)
    kept = [encoder.decode(e.ids) for e in encoded]
    assert any(kept) and not any(text in part for text in heldout.texts for part in kept)


def test_it_is_named_by_its_content(write: Write, tmp_path: Path) -> None:
    write("a.parquet", TEXTS)
    found = make(opened(tmp_path)[1], fraction=0.2)
    found.write(tmp_path / "out" / "heldout.parquet")
    again = HeldOut.read(tmp_path / "out" / "heldout.parquet")
    assert again.digest == found.digest and again.texts == found.texts
    assert make(opened(tmp_path / "a.parquet")[1], fraction=0.1).digest != found.digest


def test_a_file_that_is_no_slice_or_was_changed_is_refused(write: Write, tmp_path: Path) -> None:
    path = write("a.parquet", TEXTS)
    found = make(opened(tmp_path)[1], fraction=0.2)
    with pytest.raises(InputError, match="columns"):
        HeldOut.read(path)
    with pytest.raises(InputError, match="cannot read"):
        HeldOut.read(tmp_path / "none.parquet")
    changed = found.table.set_column(0, "text", [["other"] * found.table.num_rows])
    pq.write_table(changed, tmp_path / "changed.parquet")
    with pytest.raises(InputError, match="changed after it was written"):
        HeldOut.read(tmp_path / "changed.parquet")
