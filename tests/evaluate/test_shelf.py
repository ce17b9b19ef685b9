"""The pointer and its history: one winner, nothing lost, in a folder and in a bucket."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.artifacts.storage import Store, open_store
from headrace.errors import AlreadyExists, HeadraceError, InputError
from headrace.evaluate.shelf import CURRENT, PROMOTED, ROLLED_BACK, Pointer, Promotion, move, read_pointer
from tests.servers.faultproxy import FaultProxy
from tests.servers.gcs import GcsServer


@pytest.fixture(scope="module")
def server() -> Iterator[GcsServer]:
    with GcsServer() as running:
        running.create_bucket("models")
        yield running


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "folder":
        return str(tmp_path / "models")
    for key, value in server.env().items():
        monkeypatch.setenv(key, value)
    return f"gs://models/{secrets.token_hex(4)}"


def promotion(version: str, by: str = PROMOTED) -> Promotion:
    return Promotion(version=version, commit_hash=version * 2, step=1, by=by, at="2026-01-01", id=secrets.token_hex(4))


def test_a_pointer_is_read_as_it_was_written(place: str) -> None:
    store = open_store(place)
    assert read_pointer(store) == Pointer() and Pointer().current is None and Pointer().previous is None
    first = move(store, Pointer(), promotion("a"))
    second = move(store, first, promotion("b"))
    assert read_pointer(store) == second and second.promotions[0] == first.current
    value = json.loads(store.read(CURRENT))
    assert (value["version"], value["uri"], len(value["promotions"])) == ("b", f"{store.uri}/b", 2)


def test_who_does_not_know_of_another_is_refused(place: str) -> None:
    store = open_store(place)
    first = move(store, Pointer(), promotion("a"))
    moved = move(store, first, promotion("b"))
    for stale in (Pointer(), first):
        with pytest.raises(AlreadyExists):
            move(store, stale, promotion("c"))
    assert read_pointer(store) == moved


def test_a_pointer_that_an_earlier_headrace_wrote_is_read(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.write(CURRENT, b'{"version": "step-1-a", "uri": "x", "commit_hash": "aa", "step": 1}')
    old = read_pointer(store)
    assert old.current is not None and old.current.version == "step-1-a"
    assert [p.version for p in move(store, old, promotion("b")).promotions] == ["step-1-a", "b"]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"promotions": [{"version": 1}]}', b"\xff"])
def test_what_is_no_pointer_is_an_error_that_names_it(data: bytes, tmp_path: Path) -> None:
    (tmp_path / CURRENT).write_bytes(data)
    with pytest.raises(InputError, match=r"current\.json"):
        read_pointer(open_store(str(tmp_path)))


def history(*steps: str) -> Pointer:
    return Pointer(tuple(promotion(s.strip("<"), ROLLED_BACK if s.startswith("<") else PROMOTED) for s in steps))


@pytest.mark.parametrize(
    ("steps", "before"),
    [
        ("a", None), ("a b", "a"), ("a b c", "b"), ("a b <a", None), ("a b c <b", "a"), ("a b c <a", None),
        ("a b c <b d", "b"), ("a b <a c", "a"), ("a b a", "b"), ("a <z", "a"), ("a b <a <b", "a"), ("a b a c <a", "b"),
    ],
)  # fmt: skip
def test_what_was_before_leaves_out_what_was_rolled_back(steps: str, before: str | None) -> None:
    found = history(*steps.split()).previous
    assert (found.version if found else None) == before


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=8))
def test_rolling_back_again_and_again_ends(steps: list[str]) -> None:
    pointer, seen = history(*steps), 0
    while pointer.previous is not None:
        assert pointer.current is not None and pointer.previous.version != pointer.current.version
        pointer = Pointer((*pointer.promotions, promotion(pointer.previous.version, ROLLED_BACK)))
        seen += 1
        assert seen <= len(steps)


RACER = """
import sys
from headrace.artifacts.storage import open_store
from headrace.errors import AlreadyExists
from headrace.evaluate.shelf import PROMOTED, Promotion, move, read_pointer
place, me, how = sys.argv[1:4]
store = open_store(place)
pointer = read_pointer(store)
print("ready", flush=True)
sys.stdin.readline()
while True:
    try:
        move(store, pointer, Promotion(version=me, commit_hash=me, step=1, by=PROMOTED, at="t", id=me))
        print("won")
        break
    except AlreadyExists:
        print("lost")
        if how == "once":
            break
        pointer = read_pointer(store)
"""


def race(place: str, how: str, racers: int = 8) -> list[list[str]]:
    """What each of some processes says, all of which have read the same pointer before one writes."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, place, f"v{n}", how],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for n in range(racers)
    ]  # fmt: skip
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0].split() for process in running]
    assert [process.returncode for process in running] == [0] * racers
    return said


def test_of_many_processes_one_wins(place: str) -> None:
    said = race(place, "once")
    assert sorted(said) == [["lost"]] * 7 + [["won"]]
    (only,) = read_pointer(open_store(place)).promotions
    assert only.version == f"v{said.index(['won'])}"


def test_processes_that_try_again_lose_none_of_their_promotions(place: str) -> None:
    said = race(place, "again")
    assert all(words[-1] == "won" and words.count("won") == 1 for words in said)
    versions = [p.version for p in read_pointer(open_store(place)).promotions]
    assert sorted(versions) == [f"v{n}" for n in range(8)]


@pytest.fixture
def proxied(server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FaultProxy, Store, Store]]:
    """A proxy, and the same place seen through it and directly."""
    uri = f"gs://models/{secrets.token_hex(4)}"
    with FaultProxy(server.url) as proxy:
        stores = []
        for endpoint in (proxy.url, server.url):
            for key, value in server.env(endpoint=endpoint).items():
                monkeypatch.setenv(key, value)
            stores.append(open_store(uri))
            assert read_pointer(stores[-1]) == Pointer()  # from here on it has its client
        yield proxy, stores[0], stores[1]


@pytest.mark.parametrize("fault", ["drop_reply", "status", "reset"])
def test_a_lost_reply_or_a_failing_server_promotes_once(fault: Any, proxied: tuple[FaultProxy, Store, Store]) -> None:
    proxy, store, direct = proxied
    pointer = move(store, Pointer(), promotion("a"))
    injected = proxy.add(r"POST /upload/", fault, times=2)
    moved = move(store, pointer, promotion("b"))
    assert [p.version for p in moved.promotions] == ["a", "b"] and read_pointer(direct) == moved
    assert injected.hits == 2


def test_a_promotion_that_landed_unseen_and_was_followed_counts(proxied: tuple[FaultProxy, Store, Store]) -> None:
    """Its reply is lost, and before the client tries again another model became current: the history knows both."""
    proxy, store, direct = proxied
    pointer = move(store, Pointer(), promotion("a"))
    injected = proxy.add(r"POST /upload/", "drop_reply")

    def follow() -> None:
        while (now := read_pointer(direct)) == pointer:
            time.sleep(0.01)
        move(direct, now, promotion("c"))

    follower = threading.Thread(target=follow)
    follower.start()
    seen = move(store, pointer, promotion("b"))
    follower.join()
    assert injected.hits == 1
    assert [p.version for p in seen.promotions] == ["a", "b", "c"] and read_pointer(direct) == seen


def test_an_outage_is_an_error_that_a_retry_may_mend(
    proxied: tuple[FaultProxy, Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, store, direct = proxied
    monkeypatch.setattr("headrace.evaluate.shelf.DEADLINE_S", 2.0)
    proxy.add(r"POST /upload/", "status", times=-1)
    with pytest.raises(HeadraceError, match=r"cannot write current\.json") as found:
        move(store, Pointer(), promotion("a"))
    assert found.value.exit_code == 1 and read_pointer(direct) == Pointer()


def test_a_process_that_dies_with_the_lock_lets_others_in(tmp_path: Path) -> None:
    code = (
        "import fcntl, sys, time\nfile = open(sys.argv[1], 'a')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\ntime.sleep(60)"
    )
    lock = tmp_path / f".{CURRENT}.lock"
    with subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        store = open_store(str(tmp_path))
        with pytest.raises(HeadraceError, match=r"locked by another process for 0 s") as found:
            store.replace(CURRENT, b"{}", 0, deadline_s=0.1)
        assert found.value.exit_code == 1
        holder.send_signal(signal.SIGKILL)
    move(store, Pointer(), promotion("a"))
