"""Traps of a Hub: private and gated repositories, shards that are refused, slow, lost or gone, revisions that move."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.utils import _http

from headrace.stream import retry, source
from tests.servers.faultproxy import FaultProxy
from tests.servers.hub import HubServer
from tests.servers.hub_repos import make_dataset_repo, tag
from tests.validate.conftest import Result
from tests.validate.traps import shards

Validate = Callable[..., Result]
NAME = "org/prose"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the Hub keeps a dataset of four shards."""
    publish(tmp_path, 4)
    return tmp_path / "hub"


def publish(tmp_path: Path, n: int, first: int = 0) -> None:
    folder = tmp_path / f"shards-{n}-{first}"
    folder.mkdir()
    shards(folder, n, first=first)
    make_dataset_repo(tmp_path / "hub", NAME, {f"data/train-{i}.parquet": p for i, p in enumerate(folder.iterdir())})


@pytest.fixture
def proxy(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """The Hub, and what breaks its replies."""
    # Its handler writes to what stderr was when it was imported, which is closed by now.
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "handlers", [logging.NullHandler()])
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 0.1)
    # An attempt that was left behind asks on at the server that is gone, and closes the client it shares with the
    # next test each time: it is made to give up soon, and waited for.
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda s: time.sleep(s / 50)))
    with HubServer(root) as hub, FaultProxy(hub.url) as proxy:
        hub.patch(monkeypatch, tmp_path / "home", endpoint=proxy.url)
        yield proxy
    for thread in threading.enumerate():
        if thread.name == "headrace-attempt":
            thread.join(20)


def test_a_sound_repository_is_a_go(proxy: FaultProxy, validate: Validate) -> None:
    result = validate(NAME)
    assert result.code == 0 and not result.codes and result.report is not None
    assert len(result.report["dataset"]["revision"]) == 40


def test_a_listing_that_breaks_off_is_begun_anew(
    proxy: FaultProxy, validate: Validate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "WAITS_S", (0.02, 0.02))
    fault = proxy.add(r"GET /api/datasets/", "reset", times=2)
    assert validate(NAME).code == 0 and fault.hits == 2
    proxy.add(r"GET /api/datasets/", "reset", times=-1)
    result = validate(NAME)
    assert result.code == 1 and f"cannot reach {NAME}" in result.err and "Traceback" not in result.err


def test_a_private_repository(proxy: FaultProxy, validate: Validate) -> None:
    result = validate("org/secret")
    assert result.code == 2 and result.report is None and "HF_TOKEN" in result.err and "Traceback" not in result.err


def test_a_gated_repository(root: Path, tmp_path: Path, validate: Validate, monkeypatch: pytest.MonkeyPatch) -> None:
    with HubServer(root, gated=[NAME]) as hub:
        hub.patch(monkeypatch, tmp_path / "home")
        refused = validate(NAME)
        monkeypatch.setenv("HF_TOKEN", HubServer.TOKEN)
        granted = validate(NAME)
    assert refused.code == 2 and "is a gated dataset" in refused.err and "HF_TOKEN" in refused.err
    assert granted.code == 0 and granted.report is not None and not granted.codes


@pytest.mark.parametrize("status", [403, 404, 451])
def test_one_shard_that_is_refused(status: int, proxy: FaultProxy, validate: Validate) -> None:
    proxy.add(r"resolve/.*train-2\.parquet", "status", times=-1, status=status)
    result = validate(NAME)
    assert result.code == 3 and result.codes == {"unreadable-file"} and "Traceback" not in result.err
    assert "1 of 4 files cannot be read. data/train-2.parquet" in result.finding("unreadable-file")["message"]


def test_one_slow_shard_is_waited_for(proxy: FaultProxy, validate: Validate) -> None:
    fault = proxy.add(r"resolve/.*train-2\.parquet", "slow", times=-1, delay_s=0.3)
    result = validate(NAME)
    assert result.code == 0 and not result.codes and fault.hits


def test_a_slow_source_keeps_the_time_budget(proxy: FaultProxy, validate: Validate) -> None:
    proxy.add(r"resolve/.*\.parquet", "slow", times=-1, delay_s=0.3)
    result = validate(NAME, "--validate_s", "0.1", "--heldout_fraction", "0")
    finding = result.finding("sampled")
    assert result.code == 0 and finding["evidence"]["out_of_time"] and result.report is not None
    assert 0 < result.report["facts"]["looked_at"]["rows"] < result.report["dataset"]["rows"] == 160
    assert not result.report["estimates"]["exact"]


def test_a_shard_that_breaks_off_for_ever_is_worth_a_retry(proxy: FaultProxy, validate: Validate) -> None:
    proxy.add(r"GET .*resolve/.*train-2\.parquet", "reset", times=-1)
    result = validate(NAME, "--read_deadline_s", "0.5")
    assert result.code == 1 and "train-2.parquet" in result.err and "--read_deadline_s" in result.err
    assert "Traceback" not in result.err


def test_a_shard_that_breaks_off_now_and_then_is_read(proxy: FaultProxy, validate: Validate) -> None:
    fault = proxy.add(r"GET .*resolve/.*train-2\.parquet", "reset_mid", times=2, after_bytes=100)
    result = validate(NAME)
    assert result.code == 0 and not result.codes and fault.hits == 2


def test_a_revision_that_is_not_there(proxy: FaultProxy, validate: Validate) -> None:
    result = validate(NAME, "--dataset_revision", "v1")
    assert result.code == 2 and "has no revision 'v1'" in result.err


def test_a_branch_that_moved_since_its_manifest_is_read_as_it_was(
    root: Path, proxy: FaultProxy, validate: Validate, tmp_path: Path
) -> None:
    first = validate(NAME, output=tmp_path / "first")
    tag(root, "datasets", NAME, "before")
    publish(tmp_path, 3, first=4)
    again = validate(NAME, "--manifest", str(first.folder / "manifest.json"), output=tmp_path / "again")
    moved = validate(NAME, output=tmp_path / "moved")
    assert first.report is not None and again.report is not None and moved.report is not None
    assert again.code == moved.code == 0
    assert again.report["dataset"] == first.report["dataset"] and moved.report["dataset"]["files"] == 3
    assert moved.report["dataset"]["revision"] != first.report["dataset"]["revision"]


def test_a_revision_that_was_rewritten_is_an_error(
    root: Path, proxy: FaultProxy, validate: Validate, tmp_path: Path
) -> None:
    first = validate(NAME, output=tmp_path / "first")
    assert first.code == 0, first.err
    for path in (root / "datasets" / NAME / "data").iterdir():
        path.unlink()
    again = validate(NAME, "--manifest", str(first.folder / "manifest.json"), output=tmp_path / "again")
    assert again.code == 2 and "train-" in again.err and "Traceback" not in again.err


def test_a_client_that_another_thread_closed_is_replaced(
    proxy: FaultProxy, validate: Validate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a thread does that cannot connect: the client is one for all threads."""
    closed = 0
    given = _http.get_session

    def closed_by_another() -> object:
        nonlocal closed
        client = given()
        if closed < 4 and threading.current_thread().name == "headrace-attempt":
            closed += 1
            _http.close_session()
        return client

    monkeypatch.setattr(_http, "get_session", closed_by_another)
    result = validate(NAME)
    assert result.code == 0 and not result.codes and closed == 4, result.err
