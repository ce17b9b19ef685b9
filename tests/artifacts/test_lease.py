"""One live run a place: locks of real processes, leases on a real server of the bucket's API."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.artifacts.gcs import GcsStore
from headrace.artifacts.lease import LEASE, Lease, hold
from headrace.artifacts.storage import LocalStore
from headrace.errors import AlreadyExists, HeadraceError, Taken
from tests.servers.faultproxy import FaultProxy
from tests.servers.gcs import GcsServer

SECONDS = 1.5
HOLDER = """
import sys, time
from pathlib import Path
from headrace.artifacts.lease import hold
from headrace.artifacts.storage import LocalStore
kept = hold(LocalStore(Path(sys.argv[1])), "first", lost=print)
print("held", flush=True)
time.sleep(60)
"""


def never(error: HeadraceError) -> None:
    raise AssertionError(error)


def test_a_folder_is_refused_while_a_process_has_it_and_free_once_it_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(Taken, match=rf"in use by the run first: process {process.pid} on "):
            hold(LocalStore(tmp_path), "first", lost=never)
        process.kill()
        process.wait()
        hold(LocalStore(tmp_path), "second", lost=never).release()


@pytest.fixture(scope="module")
def server() -> Iterator[GcsServer]:
    with GcsServer() as running:
        running.create_bucket("runs")
        yield running


@pytest.fixture
def store(server: GcsServer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> GcsStore:
    for key, value in server.env().items():
        monkeypatch.setenv(key, value)
    return GcsStore.open(f"gs://runs/{request.node.name}")


@pytest.mark.parametrize("run_id", ["first", None])
def test_a_live_lease_is_refused_and_a_dead_one_taken_over(store: GcsStore, run_id: str | None) -> None:
    kept = hold(store, "first", lost=never, seconds=SECONDS)
    with pytest.raises(Taken, match="in use by the run first"):
        hold(store, run_id, lost=never, seconds=SECONDS)
    kept._ended.set()  # type: ignore[attr-defined]  # the owner is gone without a word
    began = time.monotonic()
    hold(store, run_id, lost=never, seconds=SECONDS).release()
    assert time.monotonic() - began >= SECONDS - 0.1
    assert not store.exists(LEASE)


def test_another_run_is_refused_at_once(store: GcsStore) -> None:
    kept = hold(store, "first", lost=never, seconds=60)
    began = time.monotonic()
    with pytest.raises(Taken, match="in use by the run first"):
        hold(store, "second", lost=never, seconds=60)
    assert time.monotonic() - began < 5
    kept.release()
    hold(store, "second", lost=never, seconds=60).release()


def test_of_racing_runs_one_wins(store: GcsStore) -> None:
    won: list[Lease] = []
    lost: list[Taken] = []

    def race() -> None:
        try:
            won.append(hold(store, None, lost=never, seconds=0.6))
        except Taken as error:
            lost.append(error)

    racers = [threading.Thread(target=race) for _ in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(won) == 1 and len(lost) == 7
    won[0].release()


def usurp(store: GcsStore) -> None:
    """Somebody else writes there, in spite of the lease, which is renewed meanwhile."""
    for _ in range(100):
        found = store.read_at(LEASE)
        assert found is not None
        try:
            store.replace(LEASE, b"{}", found[1])
            return
        except AlreadyExists:
            continue
    raise AssertionError("the lease was renewed each time")


def test_a_lost_reply_keeps_the_lease_and_silence_loses_it(
    server: GcsServer, store: GcsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[HeadraceError] = []
    with FaultProxy(server.url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        kept = hold(GcsStore.open(store.uri), "first", lost=said.append, seconds=SECONDS)
        proxy.add("POST /upload", "drop_reply")
        proxy.add("POST /upload", "status", status=503)
        time.sleep(2 * SECONDS)
        assert not said and store.exists(LEASE)
        usurp(store)
        end = time.monotonic() + 10
        while not said and time.monotonic() < end:
            time.sleep(0.05)
        kept.release()
        assert isinstance(said[0], Taken) and store.read(LEASE) == b"{}"


def test_a_generation_is_replaced_once(store: GcsStore) -> None:
    first = store.replace("x", b"1", 0)
    with pytest.raises(AlreadyExists):
        store.replace("x", b"2", 0)
    assert store.replace("x", b"1", 0) == first  # the same content: a reply that was lost
    second = store.replace("x", b"2", first)
    assert store.read_at("x") == (b"2", second) and store.read_at("y") is None
    store.delete_at("x", first)
    assert store.exists("x")
    store.delete_at("x", second)
    assert not store.exists("x")
