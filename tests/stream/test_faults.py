"""Under faults of the source the tokens are those of a quiet one; what lasts too long is an error that names it."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import HeadraceError, InputError
from headrace.stream import documents, retry, windows
from headrace.stream.batches import RankStream
from headrace.stream.documents import Reader
from headrace.stream.feed import TextFeed
from headrace.stream.tokenizer import Encoder
from tests.servers.faultproxy import FaultProxy
from tests.servers.hub import HubServer
from tests.servers.hub_repos import make_dataset_repo
from tests.stream.conftest import Write, manifest_of
from tests.stream.oracle import make_plan

TEXTS = [f"{i} " + "some words of it " * (i % 30) for i in range(400)]
Tokens = Callable[..., list[list[int]]]


@pytest.fixture
def proxy(write: Write, tmp_path: Path) -> Iterator[FaultProxy]:
    """A server of one file of many row groups, and what breaks its replies."""
    make_dataset_repo(tmp_path / "hub", "org/data", {"a.parquet": write("a.parquet", TEXTS, rows=40)})
    with HubServer(tmp_path / "hub") as hub, FaultProxy(hub.url) as proxy:
        yield proxy


@pytest.fixture
def tokens(proxy: FaultProxy, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> Tokens:
    """The micro-batches of a training over that server, as threads read them ahead."""
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 0.1)
    manifest = manifest_of(f"{proxy.url}/datasets/org/data/resolve/main/a.parquet")
    proxy.clear()

    def tokens(steps: int = 12, deadline_s: float = 60.0) -> list[list[int]]:
        plan = make_plan(lanes=4, global_batch=8, block=64, window_rows=30, eos_id=0)
        reader = Reader(manifest, deadline_s=deadline_s)
        stream = RankStream(plan, reader.shards, TextFeed(reader, encoder), batch=8)
        try:
            return [row for _ in range(steps) for row in next(stream).input_ids.tolist()]
        finally:
            stream.close()

    return tokens


FAULTS: dict[str, dict[str, Any]] = {
    "unavailable": {"kind": "status", "status": 503, "times": 5},
    "too many requests": {"kind": "status", "status": 429, "times": 5},
    "reset": {"kind": "reset", "times": 5},
    "reset in the middle": {"kind": "reset_mid", "after_bytes": 500, "times": 5},
    "truncated": {"kind": "truncate", "after_bytes": 700, "times": 5},
    "stalled": {"kind": "hang", "after_bytes": 300, "times": 2},
    "stalled at once": {"kind": "hang", "times": 2},
    "slow": {"kind": "slow", "delay_s": 0.2, "times": 8},
}


@pytest.mark.parametrize("large", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", FAULTS)
def test_the_tokens_are_those_of_a_quiet_source(
    name: str, large: bool, proxy: FaultProxy, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "STALL_S", 1.0)
    if large:
        monkeypatch.setattr(documents, "WHOLE_BYTES", 1_000)
        monkeypatch.setattr(documents, "STREAMED_BYTES", 2_000)
        monkeypatch.setattr(documents, "SPILLED_LANES", 99)
    quiet = tokens()
    fault = proxy.add("^GET", **FAULTS[name])
    assert tokens() == quiet
    assert fault.hits == fault.times


def test_a_source_that_stays_away_is_an_error_naming_file_and_cause(proxy: FaultProxy, tokens: Tokens) -> None:
    proxy.add("^GET", "status", times=-1, status=500)
    with pytest.raises(HeadraceError, match=r"a\.parquet: tried for 0 s; last: .*500") as found:
        tokens(deadline_s=0.5)
    assert found.value.exit_code == 1 and "--read_deadline_s" in found.value.remedy


def test_a_name_that_does_not_resolve_for_a_while_is_waited_for(
    proxy: FaultProxy, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = socket.getaddrinfo, [0]

    def flaky(host: Any, *rest: Any, **how: Any) -> Any:
        if host == "localhost" and failures[0] < 3:
            failures[0] += 1
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *rest, **how)

    found = manifest_of(f"{proxy.url}/datasets/org/data/resolve/main/a.parquet")
    named = found.mapped(lambda _, f: replace(f, uri=f.uri.replace("127.0.0.1", "localhost")))
    monkeypatch.setattr(socket, "getaddrinfo", flaky)
    assert [d.text for d in Reader(named).rows()] == TEXTS and failures[0] == 3


def test_a_file_that_is_gone_is_named_at_once(proxy: FaultProxy, tokens: Tokens) -> None:
    proxy.add("a.parquet", "status", times=-1, status=404)
    with pytest.raises(InputError, match=r"cannot read .*a\.parquet"):
        tokens()


def test_a_stream_is_closed_at_once_though_its_source_hangs(
    proxy: FaultProxy, tokens: Tokens, encoder: Encoder
) -> None:
    reader = Reader(manifest_of(f"{proxy.url}/datasets/org/data/resolve/main/a.parquet"))
    plan = make_plan(lanes=4, global_batch=8, block=64, window_rows=30, eos_id=0)
    stream = RankStream(plan, reader.shards, TextFeed(reader, encoder), batch=8)
    proxy.add("^GET", "hang", times=-1)
    taken = threading.Thread(target=lambda: next(stream, None), daemon=True)
    taken.start()
    time.sleep(0.5)
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 3


def test_waiting_for_a_slow_source_is_told(
    proxy: FaultProxy, tokens: Tokens, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retry, "TOLD_S", 0.1)
    monkeypatch.setattr(retry, "LOOK_S", 0.05)
    monkeypatch.setattr(windows, "SLOW_S", 0.1)
    proxy.add("^GET", "slow", times=2, delay_s=0.5)
    with caplog.at_level(logging.INFO, "headrace"):
        tokens(1)
    told = [r.getMessage() for r in caplog.records]
    assert any("reading" in t and "a.parquet is slow" in t for t in told)
    assert any(t.startswith("waiting for data: ") and "row group" in t for t in told)
