"""How far a training is, told from what it committed: in a folder, in a real bucket, and where nothing can be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.artifacts.storage import open_store
from headrace_pipelines.__main__ import main
from headrace_pipelines.committed import Committed
from tests.pipelines.kfp_server import KfpServer
from tests.servers.gcs import GcsServer


def commit(store: str, step: int, *losses: float) -> None:
    """What a commit leaves that matters here; the record last."""
    history: list[dict[str, Any]] = [{"loss": loss, "step": n} for n, loss in enumerate(losses)]
    folder = open_store(store).child(f"checkpoint-{step}")
    folder.write("trainer_state.json", json.dumps({"max_steps": 2500, "log_history": [*history, {"x": 1}]}).encode())
    folder.write("commit.json", b"{}")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with GcsServer() as server:
        server.create_bucket("runs")
        for key, value in server.env().items():
            monkeypatch.setenv(key, value)
        yield "gs://runs/gpt2"


def test_the_newest_commit_counts_and_a_half_written_one_does_not(bucket: str, tmp_path: Path) -> None:
    for store in (bucket, str(tmp_path)):
        training = Committed({"store": store}, "7", look_s=0)
        assert training.facts(pytest.fail) == []
        commit(store, 1000, 4.5, 3.25)
        commit(store, 200, 6.0)
        found = [("committed step", "1,000 of 2,500"), ("training loss", "3.2500")]
        assert training.facts(pytest.fail) == found
        open_store(store).child("checkpoint-1200").write("trainer_state.json", b"{")
        assert training.facts(pytest.fail) == found
        commit(store, 1400)
        assert training.facts(pytest.fail) == [("committed step", "1,400 of 2,500")]


def test_a_store_is_looked_into_now_and_then_only(tmp_path: Path) -> None:
    training = Committed({"store": str(tmp_path)}, "7")
    assert training.facts(pytest.fail) == []
    commit(str(tmp_path), 5)
    assert training.facts(pytest.fail) == []


@pytest.mark.parametrize("parameters", [{}, {"store": ""}, {"store": "/claims/of/the/cluster"}])
def test_what_only_the_steps_see_is_not_looked_for(parameters: dict[str, str]) -> None:
    assert Committed(parameters, "7", look_s=0).facts(pytest.fail) == []


def test_a_store_that_cannot_be_read_is_told_of_once(bucket: str) -> None:
    told: list[str] = []
    training = Committed({"store": "gs://no-such-bucket/x"}, "7", look_s=0)
    assert [training.facts(told.append) for _ in range(5)] == [[]] * 5
    assert len(told) == 1 and "cannot be seen from here" in told[0] and "no-such-bucket" in told[0]


@pytest.mark.usefixtures("alone")
def test_watch_shows_it(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--", "--dataset_name", "data", "--model_name_or_path", "gpt2", "--store", f"{bucket}/{{job}}"]
    with KfpServer(["RUNNING", "SUCCEEDED"]) as server:
        assert main(["submit", "mine", "--host", server.url, *flags]) == 0
        (run_id,) = server.runs
        commit(f"{bucket}/{run_id}", 1000, 3.5)
        assert main(["watch", "mine", "--host", server.url, "--poll_s", "0.01"]) == 0
    said = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert {"committed step 1,000 of 2,500", "training loss 3.5000"} <= set(said)
