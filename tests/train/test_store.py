"""Checkpoints in a bucket, on a real server of its API, and in a folder."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.artifacts.checkpoint import COMMIT, fetch, read_commit
from headrace.artifacts.storage import open_store
from headrace.errors import InputError
from tests.servers.faultproxy import FaultProxy, Kind
from tests.servers.gcs import GcsServer
from tests.train.conftest import Train, losses, sha, strict


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


def test_a_run_lives_in_its_bucket(train: Train, finished: Path, uri: str, tmp_path: Path) -> None:
    train(tmp_path / "first", store=uri, save_total_limit=2)
    store = open_store(uri)
    names = store.names()
    # checkpoint-2 is pruned, the ledger never.
    assert {n.split("/")[0] for n in names if "/" in n} == {"checkpoint-4", "checkpoint-6", "ledger"}
    assert {COMMIT, "checkpoint.json", "model.safetensors", "headrace.json"} <= set(names)
    model = fetch(uri, tmp_path / "scratch").folder
    assert sha(model / "model.safetensors") == sha(finished / "model.safetensors")

    # The pod is gone before its last checkpoint arrived whole: a new one goes on from the bucket.
    store.child("checkpoint-6").delete(COMMIT)
    facts = train(tmp_path / "second", store=uri)
    assert facts["resumed_from"] == str(tmp_path / "second" / "checkpoint-4")
    assert sha(tmp_path / "second" / "model.safetensors") == sha(finished / "model.safetensors")
    assert losses(tmp_path / "second") == losses(finished)
    assert read_commit(tmp_path / "second").ledger_head == read_commit(finished).ledger_head != ""
    assert store.exists(f"checkpoint-6/{COMMIT}")

    # A damaged one is passed over for the one before.
    store.write("checkpoint-6/optimizer.pt", b"cut short")
    facts = train(tmp_path / "third", store=uri)
    assert facts["resumed_from"] == str(tmp_path / "third" / "checkpoint-4")

    # Named by its URI, also as the weights of another run.
    facts = train(tmp_path / "fourth", resume_from_checkpoint=f"{uri}/checkpoint-4")
    assert sha(tmp_path / "fourth" / "model.safetensors") == sha(finished / "model.safetensors")
    train(tmp_path / "fifth", model_name_or_path=f"{uri}/checkpoint-4", init_from_config=None, max_steps=1)
    assert strict(tmp_path / "fifth" / "headrace.json")["steps"] == 1

    with pytest.raises(InputError, match="nothing is deleted") as found:
        train(tmp_path / "sixth", store=uri, fresh=True)
    assert f"--store {uri}-2" in found.value.remedy


def test_a_bucket_that_is_not_there_is_refused_before_anything_is_done(train: Train, uri: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        train(tmp_path / "out", store="gs://no-such-bucket/x")
    assert not list((tmp_path / "out").glob("checkpoint-*"))


@pytest.mark.parametrize("kind", ["status", "reset", "drop_reply", "reset_mid"])
def test_faults_while_uploading_change_nothing(
    kind: Kind, server: GcsServer, train: Train, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"gs://runs/{secrets.token_hex(4)}"
    with FaultProxy(server.url) as proxy:
        for key, value in server.env(endpoint=proxy.url).items():
            monkeypatch.setenv(key, value)
        fault = proxy.add("POST /upload", kind, times=2)
        train(tmp_path / "out", store=uri, do_eval=True)
        assert fault.hits == 2
        for step in (2, 4, 6):
            found = fetch(f"{uri}/checkpoint-{step}", tmp_path / "scratch").folder  # checks every digest
            assert sha(found / "model.safetensors") == sha(finished / f"checkpoint-{step}" / "model.safetensors")


def test_a_store_that_refuses_midway_ends_it_loudly(
    server: GcsServer, train: Train, flags: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, out = f"gs://runs/{secrets.token_hex(4)}", tmp_path / "out"
    with FaultProxy(server.url) as proxy:
        for key, value in server.env(endpoint=proxy.url).items():
            monkeypatch.setenv(key, value)

        def refuse() -> None:
            while not (out / "checkpoint-2").is_dir():
                time.sleep(0.001)
            proxy.add("POST /upload", "status", times=-1, status=403)

        threading.Thread(target=refuse, daemon=True).start()
        with pytest.raises(InputError, match=r"checkpoint-\d+ could not be committed: .*refused"):
            train(out, store=uri, max_steps=2_000)
        proxy.clear()
        assert not [n for n in open_store(uri).names() if n.startswith("checkpoint-6/")]
        assert strict(out / "outcome.json")["code"] == 2


def test_a_folder_as_store(train: Train, finished: Path, tmp_path: Path) -> None:
    train(tmp_path / "out", store=str(tmp_path / "store"), max_steps=2)
    shutil.rmtree(tmp_path / "out")
    facts = train(tmp_path / "out", store=str(tmp_path / "store"), max_steps=3)
    assert facts["resumed_from"] == str(tmp_path / "out" / "checkpoint-2") and facts["steps"] == 3
    assert (tmp_path / "store" / "model.safetensors").is_file()
