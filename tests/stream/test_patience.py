"""A remote file that keeps coming is read to its end however long it takes; one that falls silent is begun anew."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from headrace.errors import HeadraceError
from headrace.stream import jsonl, retry
from headrace.stream.documents import Reader
from tests.servers.faultproxy import FaultProxy
from tests.servers.hub import HubServer
from tests.servers.hub_repos import make_dataset_repo
from tests.stream.conftest import manifest_of

TEXTS = [hashlib.sha1(b"%d" % i).hexdigest() for i in range(4_000)]
DELAY_S, STALL_S = 0.25, 1.2


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A server of lines and of CSV, of which a read takes much longer than a stall."""
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(retry, "STALL_S", STALL_S)
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr(jsonl, "FIRST_BYTES", 10_000, raising=False)
    data = "".join(json.dumps({"text": t}) + "\n" for t in TEXTS).encode()
    files = {"a.jsonl": data, "a.jsonl.zst": zstandard.compress(data)}
    files["a.csv"] = "\n".join(["text,id", *(f"{t * 80},{i}" for i, t in enumerate(TEXTS * 3))]).encode()
    paths = {}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        paths[name] = tmp_path / name
    make_dataset_repo(tmp_path / "hub", "org/data", paths)
    with HubServer(tmp_path / "hub") as hub, FaultProxy(hub.url) as proxy:
        yield proxy


def url(proxy: FaultProxy, name: str) -> str:
    return f"{proxy.url}/datasets/org/data/resolve/main/{name}"


def ranges(proxy: FaultProxy) -> list[str]:
    """What was asked of a file, but for its tail, which is looked at to name it."""
    found = [e.range for e in proxy.log if e.method == "GET" and e.range]
    return [r for r in found if found.count(r) == 1 or r.startswith("bytes=0-")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst"])
def test_lines_that_come_slowly_are_read_once(name: str, proxy: FaultProxy) -> None:
    proxy.add(name, "slow", times=-1, delay_s=DELAY_S)
    began = time.monotonic()
    manifest = manifest_of(url(proxy, name))
    assert manifest.rows == len(TEXTS) and time.monotonic() - began > 1.5 * STALL_S
    assert len([r for r in ranges(proxy) if r.startswith("bytes=0-")]) == 1


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst"])
def test_lines_that_fall_silent_in_the_middle_are_begun_anew(name: str, proxy: FaultProxy) -> None:
    manifest = manifest_of(url(proxy, name))
    asked = len(proxy.log)
    proxy.clear()
    proxy.add(name, "slow", times=asked // 2)  # those of no delay are spared
    silent = proxy.add(name, "hang", times=1)
    again = manifest_of(url(proxy, name))
    assert again == manifest and silent.hits == 1 and len(proxy.log) > asked


def test_a_file_that_stays_silent_is_an_error_after_the_deadline(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "STALL_S", 0.3)
    manifest = manifest_of(url(proxy, "a.jsonl"))
    proxy.add("a.jsonl", "hang", times=-1)
    with pytest.raises(HeadraceError, match=r"tried for 1 s; last: Stalled"):
        list(Reader(manifest, deadline_s=1.0).rows())


def test_time_in_which_something_came_is_no_failure() -> None:
    attempts = []

    def read() -> str:
        attempts.append(0)
        if len(attempts) == 1:
            for _ in range(8):
                time.sleep(0.1)
                retry.going_on()
            raise ConnectionResetError("after a long while")
        return "read"

    assert retry.retrying(read, "a file", 0.7, remote=True) == "read"


@pytest.mark.slow
def test_csv_that_comes_slowly_is_read_once(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "STALL_S", 60.0)
    began = time.monotonic()
    manifest_of(url(proxy, "a.csv"))
    quick_s = time.monotonic() - began  # most of it starts the child
    proxy.clear()
    delay_s = (quick_s + 1) / 4  # three requests come before the rows, and eight for them
    monkeypatch.setattr(retry, "STALL_S", quick_s + 3 * delay_s + 1)
    proxy.add("^GET.*a.csv", "slow", times=-1, delay_s=delay_s)
    manifest = manifest_of(url(proxy, "a.csv"))
    assert manifest.rows == 3 * len(TEXTS)
    assert len([r for r in ranges(proxy) if r.startswith("bytes=0-")]) == 1
