"""Stores: what any of them promises, on a local folder."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from headrace.artifacts import storage
from headrace.artifacts.files import write_bytes
from headrace.artifacts.storage import LocalStore, open_store
from headrace.errors import AlreadyExists, InputError


@pytest.mark.parametrize("uri", ["s3://b/x", "http://h/x", "", "hf://datasets/x"])
def test_open_store_says_what_it_supports(uri: str) -> None:
    with pytest.raises(InputError, match="expected a folder, file:///folder or gs://bucket/prefix"):
        open_store(uri)


def test_open_store_takes_paths_and_file_uris(tmp_path: Path) -> None:
    plain = open_store(str(tmp_path / "a b"))
    assert open_store(f"file://{tmp_path}/a%20b").uri == plain.uri == str(tmp_path / "a b")
    with pytest.raises(InputError, match="host 'elsewhere'"):
        open_store("file://elsewhere/x")


@pytest.mark.parametrize("uri", ["gs://", "gs:///x", "gs://b/x?y", "gs://b/../x"])
def test_open_store_refuses_malformed_buckets(uri: str) -> None:
    with pytest.raises(InputError):
        open_store(uri)


def test_write_read_list_delete(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.write("b/x", b"1")
    store.write("b/x", b"2")
    store.child("b").write("a", b"3")
    assert store.names() == ["b/a", "b/x"]
    assert store.names("b/x") == ["b/x"]
    assert store.read("b/x") == b"2"
    assert store.exists("b/x") and not store.exists("b") and not store.exists("none")
    store.delete("b/x")
    store.delete("b/x")
    assert store.names() == ["b/a"]
    with pytest.raises(InputError, match="b/x"):
        store.read("b/x")


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../x", "a//b", "./a", "a/"])
def test_names_stay_below_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="plain relative path"):
        open_store(str(tmp_path)).write(name, b"")


def test_write_once_tells_a_repeat_from_a_conflict(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.write_once("lease", b"mine")
    store.write_once("lease", b"mine")
    with pytest.raises(AlreadyExists, match="lease"):
        store.write_once("lease", b"yours")
    assert store.read("lease") == b"mine"
    assert [p.name for p in tmp_path.iterdir()] == ["lease"]


def test_write_once_has_one_winner(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    wins: list[int] = []
    barrier = threading.Barrier(8)

    def race(me: int) -> None:
        barrier.wait()
        try:
            store.write_once("lease", b"%d" % me)
            wins.append(me)
        except AlreadyExists:
            pass

    threads = [threading.Thread(target=race, args=(me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert store.read("lease") == b"%d" % wins[0]


def test_folders_go_there_and_back(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_bytes(source / "a" / "w", b"x" * 5)
    write_bytes(source / "commit.json", b"{}")
    write_bytes(source / "z", b"")
    store = open_store(str(tmp_path / "there"))
    arrived: list[int] = []
    assert store.upload_folder(source, arrived.append) == ["a/w", "commit.json", "z"]
    # commit.json last, whatever its place in the alphabet
    assert sorted(arrived[:2]) == [0, 5] and arrived[2] == 2
    store.download_folder(tmp_path / "back")
    assert (tmp_path / "back/a/w").read_bytes() == b"x" * 5
    store.download_folder(tmp_path / "some", ["z"])
    assert [p.name for p in (tmp_path / "some").iterdir()] == ["z"]
    with pytest.raises(InputError, match="no none"):
        store.download_folder(tmp_path / "some", ["none"])


def test_an_upload_that_fails_never_writes_the_commit(tmp_path: Path) -> None:
    class Full(LocalStore):
        def upload_file(self, path: Path, name: str) -> None:
            if name == "b":
                raise OSError(28, "No space left on device")
            super().upload_file(path, name)

    for name in ("a", "b", "commit.json"):
        write_bytes(tmp_path / "source" / name, b"1")
    store = Full(tmp_path / "there")
    with pytest.raises(OSError, match="No space"):
        store.upload_folder(tmp_path / "source")
    assert not store.exists(storage.LAST)


def test_check_writable_leaves_nothing_behind(tmp_path: Path) -> None:
    open_store(str(tmp_path / "new" / "deep")).check_writable()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot write in"):
        open_store(str(tmp_path / "file" / "x")).check_writable()


def test_importing_storage_is_light() -> None:
    code = (
        "import sys, headrace.artifacts.checkpoint, headrace.artifacts.outcome;"
        "print([m for m in ('google.cloud.storage', 'torch', 'requests', 'numpy') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_same_content_is_told_from_another(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "there"))
    write_bytes(tmp_path / "mine", b"12")
    assert not store.same("x", tmp_path / "mine")
    for data, equal in ((b"12", True), (b"13", False), (b"123", False)):
        store.write("x", data)
        assert store.same("x", tmp_path / "mine") is equal


def test_a_generation_is_replaced_once(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    assert store.read_at("x") is None
    first = store.replace("x", b"1", 0)
    assert store.read_at("x") == (b"1", first) and first != 0
    second = store.replace("x", b"2", first)
    for stale in (0, first):
        with pytest.raises(AlreadyExists, match="replaced by another writer"):
            store.replace("x", b"3", stale)
    assert store.read_at("x") == (b"2", second)
