"""The Google Cloud Storage store against a real server of its API."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.artifacts import checkpoint as ck
from headrace.artifacts.files import write_bytes
from headrace.artifacts.storage import Store, open_store
from headrace.errors import AlreadyExists, DamagedCheckpoint, HeadraceError, InputError
from tests.servers.faultproxy import FaultProxy
from tests.servers.gcs import GcsServer


@pytest.fixture(scope="module")
def server() -> Iterator[GcsServer]:
    with GcsServer() as running:
        running.create_bucket("runs")
        yield running


@pytest.fixture
def uri(server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> str:
    for key, value in server.env().items():
        monkeypatch.setenv(key, value)
    return f"gs://runs/{secrets.token_hex(4)}"


@pytest.fixture
def store(uri: str) -> Store:
    return open_store(uri)


def test_write_read_list_delete(store: Store) -> None:
    store.write("b/x", b"1")
    store.write("b/x", b"2")
    store.child("b").write("a", b"")
    assert store.names() == ["b/a", "b/x"]
    assert store.names("b/x") == ["b/x"]
    assert store.read("b/x") == b"2" and store.read("b/a") == b""
    assert store.exists("b/x") and not store.exists("b")
    store.delete("b/x")
    store.delete("b/x")
    assert store.names() == ["b/a"]
    with pytest.raises(InputError, match="there is no b/x in gs://runs/"):
        store.read("b/x")


def test_neighbouring_prefixes_do_not_mix(store: Store, uri: str) -> None:
    open_store(f"{uri}-other").write("x", b"")
    assert store.names() == []


def test_folders_go_there_and_back(store: Store, tmp_path: Path) -> None:
    large = secrets.token_bytes(9 << 20)  # past the size from which uploads are resumable
    write_bytes(tmp_path / "source" / "a" / "w", large)
    write_bytes(tmp_path / "source" / "commit.json", b"{}")
    write_bytes(tmp_path / "source" / "z", b"")
    arrived: list[int] = []
    assert store.upload_folder(tmp_path / "source", arrived.append) == ["a/w", "commit.json", "z"]
    assert sum(arrived) == len(large) + 2 and arrived[-1] == 2
    store.download_folder(tmp_path / "back")
    assert (tmp_path / "back/a/w").read_bytes() == large
    assert (tmp_path / "back/z").read_bytes() == b""
    with pytest.raises(InputError, match="there is no none"):
        store.download_folder(tmp_path / "back", ["none"])
    assert sorted(p.name for p in (tmp_path / "back").iterdir()) == ["a", "commit.json", "z"]


def test_what_a_bucket_holds_is_not_sent_again(
    server: GcsServer, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("same", "changed", "sub/longer"):
        write_bytes(tmp_path / name, name.encode())
    with FaultProxy(server.url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        store = open_store(uri)
        store.upload_folder(tmp_path)
        write_bytes(tmp_path / "changed", b"CHANGED")  # of the same size
        write_bytes(tmp_path / "sub/longer", b"longer than before")
        write_bytes(tmp_path / "new", b"new")
        proxy.log.clear()
        arrived: list[int] = []
        assert store.upload_folder(tmp_path, arrived.append) == ["changed", "new", "same", "sub/longer"]
        assert [e.method for e in proxy.log].count("POST") == 3
        found = [store.read(n) for n in store.names()]
    assert sum(arrived) == 7 + 3 + 4 + 18
    assert found == [b"CHANGED", b"new", b"same", b"longer than before"]


def test_write_once_tells_a_repeat_from_a_conflict(store: Store) -> None:
    store.write_once("lease", b"mine")
    store.write_once("lease", b"mine")
    with pytest.raises(AlreadyExists, match="lease"):
        store.write_once("lease", b"else")
    assert store.read("lease") == b"mine"


def test_the_same_content_is_told_from_another(store: Store, tmp_path: Path) -> None:
    write_bytes(tmp_path / "mine", b"12")
    assert not store.same("x", tmp_path / "mine")
    for data, equal in ((b"12", True), (b"13", False), (b"123", False)):
        store.write("x", data)
        assert store.same("x", tmp_path / "mine") is equal


def test_write_once_has_one_winner(store: Store) -> None:
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


def test_check_writable_leaves_nothing_behind(store: Store) -> None:
    store.check_writable()
    assert store.names() == []


def test_a_missing_bucket_is_named(uri: str) -> None:
    missing = open_store("gs://no-such-bucket/x")
    with pytest.raises(InputError, match="there is no bucket 'no-such-bucket'"):
        missing.check_writable()
    with pytest.raises(InputError, match="there is no bucket 'no-such-bucket'"):
        missing.write("x", b"")
    with pytest.raises(InputError, match="no-such-bucket"):
        missing.read("x")
    with pytest.raises(InputError, match="no-such-bucket"):
        missing.names()


def test_a_host_that_never_answers_is_an_error_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(HeadraceError, match="gs://runs") as found:
            open_store("gs://runs/x").check_writable()
        assert found.value.exit_code == 1  # an outage: a retry may help
        assert time.monotonic() - begun < 15


def test_a_refused_connection_is_an_error_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    begun = time.monotonic()
    with pytest.raises(HeadraceError, match="gs://runs") as found:
        open_store("gs://runs/x").check_writable()
    assert found.value.exit_code == 1 and time.monotonic() - begun < 15


def committed_model(folder: Path) -> ck.CommitRecord:
    write_bytes(folder / "config.json", b"{}")
    write_bytes(folder / "model.safetensors", b"weights")
    return ck.commit(folder, step=7, plan_hash="p")


def test_fetch_of_a_committed_model(store: Store, tmp_path: Path) -> None:
    record = committed_model(tmp_path / "model")
    store.upload_folder(tmp_path / "model")
    write_bytes(tmp_path / "artifact" / "x", b"")
    ref = ck.CheckpointRef(uri=store.uri, commit_hash=record.hash, step=7)
    ref.write(tmp_path / "artifact")
    fetched = ck.fetch(str(tmp_path / "artifact"), tmp_path / "scratch")
    assert fetched.ref == ref
    assert (fetched.folder / "model.safetensors").read_bytes() == b"weights"
    assert ck.read_commit(fetched.folder) == record
    assert ck.fetch(store.uri, tmp_path / "scratch").folder == fetched.folder


def test_fetch_of_a_remote_reference_beside_it(store: Store, tmp_path: Path) -> None:
    record = committed_model(tmp_path / "model")
    ck.CheckpointRef(uri=".", commit_hash=record.hash, step=7).write(tmp_path / "model")
    store.upload_folder(tmp_path / "model")
    assert ck.read_commit(ck.fetch(store.uri, tmp_path / "scratch").folder) == record


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_fetch_verifies_remote_files(store: Store, tmp_path: Path, damage: str) -> None:
    committed_model(tmp_path / "model")
    store.upload_folder(tmp_path / "model")
    if damage == "missing":
        store.delete("model.safetensors")
    else:
        store.write("model.safetensors", b"weight" if damage == "truncated" else b"Weights")
    with pytest.raises(DamagedCheckpoint, match=r"model\.safetensors"):
        ck.fetch(store.uri, tmp_path / "scratch")


def test_fetch_of_a_plain_training_output_leaves_its_checkpoints(store: Store, tmp_path: Path) -> None:
    store.write("config.json", b"{}")
    store.write("checkpoint-5/config.json", b"{}")
    folder = ck.fetch(store.uri, tmp_path / "scratch").folder
    assert [p.name for p in folder.iterdir()] == ["config.json"]


def test_fetch_of_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing"):
        ck.fetch(store.uri, tmp_path / "scratch")
