"""`headrace cancel`: a run told to end, and waited for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace_pipelines.__main__ import main
from tests.pipelines.kfp_server import RESET, Fault, KfpServer
from tests.pipelines.pods_server import PodsServer

pytestmark = pytest.mark.usefixtures("alone")
ErrorOf = Callable[..., tuple[int, str]]
FAST = ["--poll_s", "0.01"]
TERMINATE = ":terminate"


@pytest.mark.parametrize("states", [["CANCELING", "CANCELING", "CANCELED"], ["CANCELING", "FAILED"], ["SUCCEEDED"]])
def test_it_waits_for_the_end(states: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(canceled=states) as server:
        run_id = server.add_run("mine")
        assert main(["cancel", "mine", "--host", server.url, *FAST]) == 0
    assert capsys.readouterr().out == f"state      {states[-1]}\n"
    assert server.calls("POST") == [f"POST /runs/{run_id}:terminate"] and server.violations == []


def test_a_run_that_had_ended(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer() as server:
        server.add_run("mine", "SUCCEEDED")
        assert main(["cancel", "mine", "--host", server.url]) == 0
    assert "had ended before: SUCCEEDED" in capsys.readouterr().out and server.calls("POST") == []


def test_a_run_that_is_ending_is_only_waited_for() -> None:
    with KfpServer(["CANCELING", "CANCELED"]) as server:
        server.add_run("mine", "CANCELING", fixed=False)
        assert main(["cancel", "mine", "--host", server.url, *FAST]) == 0
    assert server.calls("POST") == []


def test_a_run_that_ends_by_itself_meanwhile() -> None:
    """The back end refuses then, as if there were no such run."""
    with KfpServer() as server:
        run_id = server.add_run("mine")

        def just_ended(request: object) -> None:
            if server.calls(TERMINATE):
                server.runs[run_id]["state"] = "SUCCEEDED"

        server.before = just_ended
        assert main(["cancel", "mine", "--host", server.url, *FAST]) == 0


@pytest.mark.parametrize("status", [RESET, 503])
def test_a_lost_reply_is_no_failure(status: int) -> None:
    with KfpServer(faults=[Fault(TERMINATE, status, acted=True)]) as server:
        server.add_run("mine")
        assert main(["cancel", "mine", "--host", server.url, *FAST]) == 0


@pytest.mark.parametrize(("status", "code"), [(403, 2), (503, 1)])
def test_a_run_that_was_not_told(status: int, code: int, error_of: ErrorOf) -> None:
    with KfpServer(faults=[Fault(TERMINATE, status)]) as server:
        server.add_run("mine")
        found, said = error_of("cancel", "mine", "--host", server.url, *FAST)
    assert found == code and f"({status})" in said


def test_a_run_that_does_not_end_in_time(error_of: ErrorOf) -> None:
    with KfpServer(canceled=["CANCELING"]) as server:
        run_id = server.add_run("mine")
        code, said = error_of("cancel", "mine", "--host", server.url, *FAST, "--wait_s", "0.05")
    assert code == 1 and "is CANCELING after 0.05 s" in said and f"headrace watch {run_id}" in said


def test_not_waiting(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(canceled=["CANCELING"]) as server:
        server.add_run("mine")
        assert main(["cancel", "mine", "--host", server.url, "--wait_s", "0"]) == 0
    assert capsys.readouterr().out == "state      CANCELING\n"


def test_a_run_that_is_not_there(error_of: ErrorOf) -> None:
    with KfpServer() as server:
        assert error_of("cancel", "mine", "--host", server.url)[0] == 2


def on_nodes(server: KfpServer, nodes: int = 4) -> str:
    given: dict[str, Any] = {"runtime_config": {"parameters": {"num_nodes": nodes}}}
    return server.add_run("mine", experiment_id=server.add_experiment("any"), **given)


def test_the_train_job_of_a_run_on_several_nodes_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with KfpServer(canceled=["CANCELING", "CANCELED"]) as server:
        run_id = on_nodes(server)
        with PodsServer("kubeflow", [], train_jobs={"headrace-train-1": run_id, "another": "run-9"}) as cluster:
            monkeypatch.setenv("KUBECONFIG", cluster.kubeconfig(tmp_path / "config"))
            assert main(["cancel", "mine", "--host", server.url, *FAST]) == 0
            assert cluster.train_jobs == {"another": "run-9"}
            assert main(["cancel", "mine", "--host", server.url, *FAST]) == 0  # nothing left to delete
    assert "deleted    TrainJob headrace-train-1" in capsys.readouterr().out


def test_without_a_way_to_kubernetes_the_command_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with KfpServer(canceled=["CANCELED"]) as server:
        run_id = on_nodes(server)
        assert main(["cancel", "mine", "--host", server.url, *FAST]) == 0
    said = capsys.readouterr().err
    assert f"kubectl -n kubeflow delete trainjob -l headrace.run={run_id}" in said and "no Kubernetes" in said


def test_a_run_on_one_node_needs_no_kubernetes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with KfpServer(canceled=["CANCELED"]) as server:
        on_nodes(server, 1)
        assert main(["cancel", "mine", "--host", server.url, *FAST]) == 0
    assert "kubectl" not in capsys.readouterr().err
