"""Footers that are kept: a survey goes on where it was killed, and nothing is believed of a source that changed."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.stream import footers, shards
from headrace.stream import survey as surveys
from headrace.stream.manifest import Manifest
from headrace.stream.source import resolve
from headrace.stream.survey import Survey, listed, survey

FILES = 140


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Many names of one file."""
    found = tmp_path / "data"
    found.mkdir()
    pq.write_table(pa.table({"text": ["a", "b", "c"], "n": [1, 2, 3]}), found / "000.parquet", row_group_size=2)
    for i in range(1, FILES):
        os.link(found / "000.parquet", found / f"{i:03}.parquet")
    return found


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that were opened, one name an opening; the real thing opens them."""
    found: list[str] = []

    def open_shard(file: object, *rest: object) -> object:
        found.append(file.path)  # type: ignore[attr-defined]
        return shards.open_shard(file, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(surveys, "open_shard", open_shard)
    return found


def listing(folder: Path) -> Manifest:
    return listed([(resolve(str(folder)), "text", 1)])


def kept(folder: Path, cache: Path, **how: object) -> Survey:
    return survey(listing(folder), kept=cache, **how)  # type: ignore[arg-type]


def test_what_was_read_is_not_read_again(folder: Path, tmp_path: Path, opened: list[str]) -> None:
    first = kept(folder, tmp_path / "cache")
    assert len(opened) == FILES and first.manifest.rows == 3 * FILES
    again = kept(folder, tmp_path / "cache")
    assert len(opened) == FILES and again == first
    kept(folder, tmp_path / "cache", extra=("n",))
    assert len(opened) == 2 * FILES


def test_it_goes_on_where_it_was_stopped(folder: Path, tmp_path: Path, opened: list[str]) -> None:
    class Killed(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        if done == 50:
            raise Killed

    with pytest.raises(Killed):
        kept(folder, tmp_path / "cache", progress=stop, threads=2)
    (path,) = (tmp_path / "cache").iterdir()
    with path.open("ab") as out:
        out.write(b'[7,"cut in the mid')
    before = len(opened)
    assert 50 <= before < FILES
    told: list[int] = []
    found = kept(folder, tmp_path / "cache", progress=lambda done, _: told.append(done))
    assert found.manifest.rows == 3 * FILES and len(opened) - before == FILES - 50
    assert told[0] == 51 and told[-1] == FILES
    assert kept(folder, tmp_path / "cache") == found and len(opened) - before == FILES - 50


def test_a_file_that_changed_is_read_anew(folder: Path, tmp_path: Path) -> None:
    kept(folder, tmp_path / "cache")
    (folder / "005.parquet").unlink()
    pq.write_table(pa.table({"text": ["x"]}), folder / "005.parquet")
    assert kept(folder, tmp_path / "cache").manifest.rows == 3 * (FILES - 1) + 1


def test_a_problem_is_looked_at_again(folder: Path, tmp_path: Path, opened: list[str]) -> None:
    (folder / "005.parquet").unlink()
    (folder / "005.parquet").write_bytes(b"no Parquet at all")
    for _ in range(2):
        assert [p.path for p in kept(folder, tmp_path / "cache").problems] == ["005.parquet"]
    assert len(opened) == FILES + 1


def test_few_files_leave_nothing(folder: Path, tmp_path: Path) -> None:
    for i in range(20, FILES):
        (folder / f"{i:03}.parquet").unlink()
    kept(folder, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_lines_that_only_their_end_names_are_read_every_time(tmp_path: Path, opened: list[str]) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(FILES):
        (folder / f"{i:03}.jsonl").write_text('{"text": "a"}\n')
    for _ in range(2):
        assert kept(folder, tmp_path / "cache").manifest.rows == FILES
    assert len(opened) == 2 * FILES


def test_a_folder_that_cannot_be_written_is_told_of(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert kept(folder, tmp_path / "file" / "cache").manifest.rows == 3 * FILES
    assert "footers are not kept" in caplog.text


def test_the_default_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert footers.default_folder() == tmp_path / "headrace" / "footers"
