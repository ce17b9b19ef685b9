"""`headrace list`: runs by page, experiment and number."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from headrace_pipelines import runs
from headrace_pipelines.__main__ import main
from tests.pipelines.kfp_server import KfpServer

pytestmark = pytest.mark.usefixtures("alone")
ErrorOf = Callable[..., tuple[int, str]]


def test_the_newest_first_over_pages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(runs, "PAGE", 2)
    with KfpServer() as server:
        for n in range(5):
            server.add_run(f"run{n}")
        assert main(["list", "--host", server.url]) == 0
        names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
        assert main(["list", "--host", server.url, "--limit", "3"]) == 0
    assert names == ["run4", "run3", "run2", "run1", "run0"]
    assert len(capsys.readouterr().out.splitlines()) == 4 and server.violations == []
    assert len(server.calls("GET /runs")) == 3 + 2  # no more pages than are needed


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer() as server:
        ended = server.add_run("é", "SUCCEEDED", finished_at="2026-03-01T09:00:00Z", experiment_id="e")
        server.add_run("goes on", finished_at="1970-01-01T00:00:00Z")
        assert main(["list", "--host", server.url, "--json"]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["name"] == "goes on" and first["finished_at"] is None
    assert second == {
        "id": ended, "name": "é", "state": "SUCCEEDED", "experiment_id": "e", "created_at": "2026-03-01T00:00:00Z",
        "finished_at": "2026-03-01T09:00:00Z", "page": f"{server.url}/#/runs/details/{ended}",
    }  # fmt: skip


def test_one_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer() as server:
        nightly = server.add_experiment("nightly")
        server.add_run("ours", experiment_id=nightly)
        server.add_run("theirs", experiment_id="another")
        assert main(["list", "--host", server.url, "--experiment", "nightly"]) == 0
    said = capsys.readouterr().out
    assert "ours" in said and "theirs" not in said


def test_the_pages_may_be_served_elsewhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://ui.example.org/pipeline/")
    with KfpServer() as server:
        run_id = server.add_run("mine")
        assert main(["list", "--host", server.url, "--json"]) == 0
    page = f"https://ui.example.org/pipeline/#/runs/details/{run_id}"
    assert json.loads(capsys.readouterr().out)["page"] == page


def test_nothing_there(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer() as server:
        assert main(["list", "--host", server.url]) == 0
        assert capsys.readouterr().out == "no runs\n"
        assert main(["list", "--host", server.url, "--json"]) == 0
    assert capsys.readouterr().out == ""


def test_an_experiment_that_is_not_there(error_of: ErrorOf) -> None:
    with KfpServer() as server:
        code, said = error_of("list", "--host", server.url, "--experiment", "nigthly")
    assert code == 2 and "no experiment called 'nigthly'" in said


def test_a_limit_that_is_none(error_of: ErrorOf) -> None:
    assert error_of("list", "--host", "http://127.0.0.1:9", "--limit", "0")[0] == 2
