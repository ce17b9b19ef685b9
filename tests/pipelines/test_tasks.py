"""The pipeline's own tasks, called as kfp calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from headrace.artifacts.files import read_json
from headrace.artifacts.storage import open_store
from headrace.errors import Refused
from headrace.images import tag
from headrace_pipelines.tasks import record, refuse
from tests.artifact_of import artifact
from tests.servers.gcs import GcsServer

ASKED = {"dataset_name": "some/data", "model_name_or_path": "some/model", "arguments": {"max_steps": 3.0}}


def recorded(folder: Path, state: str = "SUCCEEDED", message: str = "", **places: str) -> tuple[str, dict[str, Any]]:
    """Where the outcome lies besides, and the artifacts."""
    made = {"outcome": artifact(dsl.Artifact, folder, "outcome"), "summary": artifact(dsl.Markdown, folder, "summary")}
    status = dsl.PipelineTaskFinalStatus(
        state=state, pipeline_job_resource_name="job", pipeline_task_name="steps",
        error_code=9 if message else None, error_message=message or None,
    )  # fmt: skip
    (where,) = record.python_func(status=status, job="42", **ASKED, **{"store": "", "publish": "", **places}, **made)
    return where, made


def test_refusing_fails() -> None:
    with pytest.raises(Refused, match="no-go"):
        refuse.python_func(reason="no-go")


def test_the_outcome_says_what_was_asked_and_how_it_ended(tmp_path: Path) -> None:
    where, made = recorded(tmp_path / "kfp", publish=str(tmp_path / "shelf"))
    found = read_json(Path(made["outcome"].path))
    assert (found["job"], found["state"], found["images"]) == ("42", "SUCCEEDED", tag())
    assert found["parameters"] == {**ASKED, "store": "", "publish": str(tmp_path / "shelf")}
    assert made["outcome"].metadata == {"state": "SUCCEEDED"}
    assert Path(where) == tmp_path / "shelf" / "runs" / "42.json" and json.loads(Path(where).read_text()) == found
    assert "| dataset | some/data |" in Path(made["summary"].path).read_text()


@pytest.mark.parametrize(
    ("state", "expected"),
    [("COMPLETE", "SUCCEEDED"), ("FAILED", "FAILED"), ("CANCELLED", "CANCELED"), ("RUNNING", "UNKNOWN")],
)
def test_back_ends_call_states_by_several_names(state: str, expected: str, tmp_path: Path) -> None:
    _, made = recorded(tmp_path, state, "train\nfailed")
    found = read_json(Path(made["outcome"].path))
    assert (found["state"], found["error"]) == (expected, {"code": 9, "message": "train\nfailed"})
    assert "| error | train failed |" in Path(made["summary"].path).read_text()


def test_without_a_place_it_is_an_artifact_alone(tmp_path: Path) -> None:
    where, made = recorded(tmp_path)
    assert where == "" and Path(made["outcome"].path).is_file()


def test_it_goes_to_the_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with GcsServer() as server:
        server.create_bucket("models")
        for key, value in server.env().items():
            monkeypatch.setenv(key, value)
        where, made = recorded(tmp_path, store="gs://models/run-{job}")
        assert where == "gs://models/run-42/runs/42.json"
        store = open_store("gs://models/run-42/runs")
        assert json.loads(store.read("42.json")) == read_json(Path(made["outcome"].path))


def test_a_place_that_is_gone_fails_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    where, made = recorded(tmp_path / "kfp", publish=str(tmp_path / "file"))
    assert where == "" and made["outcome"].metadata == {"state": "SUCCEEDED"}
    assert "the outcome is an artifact only" in caplog.text
