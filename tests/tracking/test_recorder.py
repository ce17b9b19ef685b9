"""What the recorder adds to a run at the server: what is new, once, whatever was recorded before and in which order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from headrace.tracking.journal import Journal, RunFacts
from headrace.tracking.recorder import EVALUATED, SENT, record
from tests.servers.wandb_server import WandbServer
from tests.tracking.conftest import RUN, scored, trained

Step = Callable[..., Path]


@pytest.fixture
def step(server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    """A step that records these training steps, then an evaluation if it has a version, in this process."""
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")

    def made(*steps: int, version: str = "", loss: float = 2.5, tables: int = 0) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir()))) / "tracking"
        journal = Journal(folder, RunFacts(id=RUN, project="p", name="mill", job_type="train"))
        for at in steps:
            journal.row(at, {"train/loss": 10.0 / at})
        if version:
            journal.scores(version, {"eval/eval_loss": loss})
        for at in range(tables):
            journal.table(f"eval/{at}", ["source", "eval_loss"], [["a", loss], ["b", None]])
        journal.end()
        journal.close()
        send(folder)
        return folder

    yield made
    wandb.teardown()


def send(folder: Path) -> None:
    """Record it, once more."""
    assert record(folder, online=True, following=False) == SENT


def test_a_training_goes_on_after_evaluations(server: WandbServer, step: Step) -> None:
    """Each version has its scores once, and they take the place of no step, where each is logged."""
    first = step(1, 2, version="a")
    step(1, 2, version="a", loss=2.25)  # as by another held-out slice
    step(1, 2, 3, 4)
    run = server.runs[RUN]
    assert trained(run) == [1, 2, 3, 4] and scored(run) == [(2, "a", 2.5), (2, "a", 2.25)]
    later = step(1, 2, 3, 4, version="b", loss=1.5)
    before = list(run.history)
    for folder in (later, first, later):
        send(folder)
    step(1, 2, version="a")
    assert run.history == before and run.summary["version"] == "b" and run.summary["eval/eval_loss"] == 1.5
    # The model of step 2 has new scores after step 4: they stand at step 2, and no step is logged again.
    step(1, 2, version="a", loss=2.0)
    step(1, 2, 3, 4, 5)
    assert scored(run) == [(2, "a", 2.5), (2, "a", 2.25), (4, "b", 1.5), (2, "a", 2.0)]
    assert trained(run) == [1, 2, 3, 4, 5] and len(run.history) == 9


def test_an_evaluation_sends_what_a_training_did_not(server: WandbServer, step: Step) -> None:
    step(1)
    step(1, 2, 3, version="a")
    step(1, 2, 3, 4)
    assert trained(server.runs[RUN]) == [1, 2, 3, 4] and scored(server.runs[RUN]) == [(3, "a", 2.5)]


def test_tables_arrive_once(server: WandbServer, step: Step) -> None:
    folder = step(10, version="a", tables=2)
    run = server.runs[RUN]
    *_, tables = run.history
    assert len(run.history) == 3 and tables["eval/0"]["nrows"] == tables["eval/1"]["nrows"] == 2
    assert tables["train/global_step"] == 10 and run.summary["eval/1"] == tables["eval/1"]
    assert {artifact.type for artifact in server.artifacts} == {"run_table"}
    files = {name: data for artifact in server.artifacts for name, data in artifact.files.items()}
    assert json.loads(files["eval/0.table.json"])["data"] == [["a", 2.5], ["b", None]]
    step(10, version="a", tables=2)
    send(folder)
    assert len(run.history) == 3 and [artifact.committed for artifact in server.artifacts] == [True, True]
    step(10, version="a", loss=2.0, tables=2)
    assert len(run.history) == 5 and [artifact.committed for artifact in server.artifacts] == [True] * 4


def test_tables_are_said_to_be_there_once_they_are(server: WandbServer, step: Step) -> None:
    """What a kill while they are uploaded leaves: the scores, and no word of tables."""
    left: list[tuple[Any, Any]] = []

    def look(asked: str) -> None:
        if asked == "CommitArtifact":
            run: Any = wandb.run
            left.append((run.summary.get("eval/0"), run.summary.get(EVALUATED)))

    server.trouble = look
    step(10, version="a", tables=2)
    run = server.runs[RUN]
    scores, tables = run.summary[EVALUATED].split()
    assert left == [(None, scores)] * 2 and tables != scores and run.summary["eval/0"]["nrows"] == 2


def test_a_server_without_artifacts_has_the_rest(
    server: WandbServer, step: Step, capfd: pytest.CaptureFixture[str]
) -> None:
    server.trouble = lambda asked: 400 if asked == "CreateArtifact" else None
    folder = step(10, version="a", tables=2)
    run = server.runs[RUN]
    assert "the table eval/1 is missing" in capfd.readouterr().out
    before = list(run.history)
    send(folder)
    assert scored(run) == [(10, "a", 2.5)] and run.exit_code == 0 and run.history == before
