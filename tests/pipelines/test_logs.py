"""`headrace logs`: the pods' logs, by Kubernetes' own client against a server that speaks its API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from headrace_pipelines import pods
from headrace_pipelines.__main__ import main
from tests.pipelines.kfp_server import KfpServer
from tests.pipelines.pods_server import FakePod, PodsServer

pytestmark = pytest.mark.usefixtures("alone")
ErrorOf = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "AGAIN_S", 0.01)


def pods_of(run_id: str) -> list[FakePod]:
    root = "headrace-x1.root"
    return [
        FakePod("p3", f"{root}.branches.go.train.executor(1)", run_id, "2026-03-01T00:03:00Z", ["again", "done"]),
        FakePod("p1", f"{root}.validate.executor", run_id, "2026-03-01T00:01:00Z", ["go", ""]),
        FakePod("p0", f"{root}.validate-driver", run_id, "2026-03-01T00:00:00Z", ["kfp's own"]),
        FakePod("p2", f"{root}.branches.go.train.executor(0)", run_id, "2026-03-01T00:02:00Z", ["lost"]),
        FakePod("p9", f"{root}.validate.executor", "another run", "2026-03-01T00:01:00Z", ["another"]),
    ]


def test_every_step_in_the_order_it_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with KfpServer() as server:
        experiment = server.add_experiment("e")
        run_id = server.add_run("mine", experiment_id=experiment)
        with PodsServer("kubeflow", pods_of(run_id)) as kubernetes:
            monkeypatch.setenv("KUBECONFIG", kubernetes.kubeconfig(tmp_path / "config"))
            assert main(["logs", "mine", "--host", server.url]) == 0
            said = capsys.readouterr().out
            assert main(["logs", "mine", "--host", server.url, "--step", "train"]) == 0
    assert said == "validate | go\nvalidate | \ntrain | lost\ntrain | again\ntrain | done\n"
    assert capsys.readouterr().out == "lost\nagain\ndone\n"
    assert {q["container"][0] for q in kubernetes.read} == {"main"} and server.violations == []


def test_the_namespace_is_that_of_the_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with KfpServer() as server:
        where = server.add_experiment("e", namespace="team-a")
        run_id = server.add_run("mine", experiment_id=where)
        with PodsServer("team-a", pods_of(run_id)) as kubernetes:
            monkeypatch.setenv("KUBECONFIG", kubernetes.kubeconfig(tmp_path / "config"))
            assert main(["logs", "mine", "--host", server.url]) == 0


def test_following_reads_steps_as_they_start_and_goes_on_where_it_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with KfpServer(looks=["RUNNING", "RUNNING", "RUNNING", "SUCCEEDED"]) as server:
        run_id = server.add_run("mine", fixed=False)
        all_of_them = pods_of(run_id)
        all_of_them[1].cut, all_of_them[1].lines = 2, ["one", "two", "three"]
        all_of_them[3].phase = "Pending"
        with PodsServer("ns", all_of_them[1:4:2]) as kubernetes:
            monkeypatch.setenv("KUBECONFIG", kubernetes.kubeconfig(tmp_path / "config"))

            def later(request: object) -> None:
                if len(server.calls(f"GET /runs/{run_id}")) == 2:
                    all_of_them[3].phase = "Running"

            server.before = later
            argv = ["logs", "mine", "--host", server.url, "--namespace", "ns", "--follow", "--poll_s", "0.01"]
            assert main(argv) == 0
    assert capsys.readouterr().out == "validate | one\nvalidate | two\nvalidate | three\ntrain | lost\n"


def test_following_outlasts_a_kubernetes_that_is_away_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with KfpServer() as server:
        run_id = server.add_run("mine", "SUCCEEDED")
        with PodsServer("ns", pods_of(run_id), status=503, refusals=3) as kubernetes:
            monkeypatch.setenv("KUBECONFIG", kubernetes.kubeconfig(tmp_path / "config"))
            argv = ["logs", "mine", "--host", server.url, "--namespace", "ns", "--follow", "--poll_s", "0.01"]
            assert main([*argv, "--step", "validate"]) == 0
    said = capsys.readouterr()
    assert said.out == "go\n\n" and said.err.count("refused (503)") == 3


def test_without_a_kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))  # its client reads the default when it is imported
    with KfpServer() as server:
        server.add_run("mine")
        code, said = error_of("logs", "mine", "--host", server.url, "--namespace", "ns")
    assert code == 2 and "no Kubernetes is configured" in said and "KUBECONFIG" in said


def test_a_kubernetes_that_refuses_or_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
) -> None:
    with KfpServer() as server:
        server.add_run("mine")
        argv = ["logs", "mine", "--host", server.url, "--namespace", "ns"]
        with PodsServer("ns", [], status=403) as kubernetes:
            monkeypatch.setenv("KUBECONFIG", kubernetes.kubeconfig(tmp_path / "config"))
            code, said = error_of(*argv)
        assert code == 2 and "refused (403)" in said and "pods/log in the namespace ns" in said
        code, said = error_of(*argv)
    assert code == 1 and "cannot reach Kubernetes" in said and len(said.splitlines()) == 2


@pytest.mark.parametrize("flags", [[], ["--step", "tain"]])
def test_a_step_without_a_pod(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
) -> None:
    with KfpServer() as server:
        run_id = server.add_run("mine")
        with PodsServer("ns", pods_of(run_id) if flags else []) as kubernetes:
            monkeypatch.setenv("KUBECONFIG", kubernetes.kubeconfig(tmp_path / "config"))
            code, said = error_of("logs", "mine", "--host", server.url, "--namespace", "ns", *flags)
    assert code == 1 and "there is no pod" in said and f"runs/details/{run_id}" in said


def test_a_run_that_is_not_there(error_of: ErrorOf) -> None:
    with KfpServer() as server:
        code, said = error_of("logs", "mine", "--host", server.url)
    assert code == 2 and "no run called 'mine'" in said
