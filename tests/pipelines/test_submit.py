"""`headrace submit` with kfp's own client, against a server that speaks the official API."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace_pipelines import asking
from headrace_pipelines.__main__ import main
from tests.pipelines.kfp_server import RESET, STALL, Fault, KfpServer

pytestmark = pytest.mark.usefixtures("alone")
ErrorOf = Callable[..., tuple[int, str]]
RECIPE = """--dataset_streaming true --do_train --eval_strategy no --dataset_name HuggingFaceFW/fineweb
    --dataset_config_name CC-MAIN-2024-10 --dataset_group_text true --dataloader_num_workers 8 --max_steps 2500
    --model_name_or_path openai-community/gpt2 --output_dir /output-checkpoint --per_device_train_batch_size 8
    --logging_steps 50 --save_steps 1000"""
SMALL = ["--", "--dataset_name", "data", "--model_name_or_path", "gpt2"]
CREATE = "POST /runs$"


def only_run(server: KfpServer) -> dict[str, Any]:
    assert server.violations == []
    (run,) = server.runs.values()
    return run


def test_the_recipe_arrives_as_it_was_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer() as server:
        argv = ["submit", "gpt2training-stream", "--host", server.url, "--", *shlex.split(RECIPE)]
        assert main([*argv, "--dataset_revision", "v1.0"]) == 0
    run = only_run(server)
    assert run["display_name"] == "gpt2training-stream"
    assert run["runtime_config"]["parameters"] == {
        "dataset_name": "HuggingFaceFW/fineweb", "dataset_config_name": "CC-MAIN-2024-10", "dataset_revision": "v1.0",
        "model_name_or_path": "openai-community/gpt2", "store": "", "publish": "", "output_root": "",
        "arguments": {
            "dataset_streaming": True, "do_train": True, "eval_strategy": "no", "dataset_group_text": True,
            "dataloader_num_workers": 8, "max_steps": 2500, "per_device_train_batch_size": 8, "logging_steps": 50,
            "save_steps": 1000,
        },
    }  # fmt: skip
    said = capsys.readouterr()
    assert f"{server.url}/#/runs/details/{run['run_id']}" in said.out and run["run_id"] in said.out.splitlines()[1]
    assert "--output_dir /output-checkpoint" in said.err
    assert "Warning" not in said.err


def test_the_version_that_runs_is_the_package_compile_writes(tmp_path: Path) -> None:
    with KfpServer() as server:
        assert main(["submit", "mine", "--host", server.url, *SMALL]) == 0
    assert main(["compile", "-o", str(tmp_path / "p.yaml")]) == 0
    run = only_run(server)
    reference = run["pipeline_version_reference"]
    assert server.uploaded[reference["pipeline_version_id"]] == (tmp_path / "p.yaml").read_bytes()
    assert server.pipelines[reference["pipeline_id"]]["name"] == "headrace"
    # The tasks' own caching is in the version; a run cannot overrule it.
    assert "pipeline_spec" not in run


def test_an_equal_package_is_uploaded_once_and_experiments_are_made_once() -> None:
    with KfpServer() as server:
        for name in ("first", "second"):
            assert main(["submit", name, "--host", server.url, "--experiment", "nightly", *SMALL]) == 0
    assert server.violations == [] and len(server.runs) == 2
    assert len(server.pipelines) == len(server.versions) == 1
    (experiment,) = server.experiments.values()
    assert experiment["display_name"] == "nightly"
    assert {run["experiment_id"] for run in server.runs.values()} == {experiment["experiment_id"]}


def test_a_cluster_file_is_in_the_version_and_its_account_in_the_run(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("{service_account: trainer, accelerators: 4}")
    cluster = ["--cluster", str(tmp_path / "cluster.yaml")]
    with KfpServer() as server:
        assert main(["submit", "mine", "--host", server.url, *cluster, *SMALL]) == 0
    assert main(["compile", "-o", str(tmp_path / "p.yaml"), *cluster]) == 0
    run = only_run(server)
    assert run["service_account"] == "trainer"
    sent = server.uploaded[run["pipeline_version_reference"]["pipeline_version_id"]]
    assert sent == (tmp_path / "p.yaml").read_bytes() and b"count: '4'" in sent


def test_a_namespace_is_passed_on() -> None:
    with KfpServer(multi_user=True) as server:
        assert main(["submit", "mine", "--host", server.url, "--namespace", "team-a", *SMALL]) == 0
    assert [e["namespace"] for e in (*server.experiments.values(), *server.pipelines.values())] == ["team-a"] * 2
    lists = [r for r in server.requests if r.call() in ("GET /experiments", "GET /pipelines")]
    assert lists and all(r.query["namespace"] == ["team-a"] for r in lists)


def test_kfps_environment_names_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_DEFAULT_EXPERIMENT_NAME", "ours")
    with KfpServer() as server:
        assert main(["submit", "first", "--host", server.url, *SMALL]) == 0
        monkeypatch.setenv("KF_PIPELINES_OVERRIDE_EXPERIMENT_NAME", "theirs")
        assert main(["submit", "second", "--host", server.url, "--experiment", "mine", *SMALL]) == 0
    assert [e["display_name"] for e in server.experiments.values()] == ["ours", "theirs"]


def test_a_run_that_goes_on_is_not_started_twice(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(looks=["RUNNING"]) as server:
        for _ in range(2):
            assert main(["submit", "mine", "--host", server.url, *SMALL]) == 0
    run = only_run(server)
    said = capsys.readouterr().out
    assert said.count(run["run_id"]) == 4 and "nothing was started" in said


def test_a_run_that_goes_on_with_other_flags_is_named(error_of: ErrorOf) -> None:
    with KfpServer(looks=["RUNNING"]) as server:
        assert main(["submit", "mine", "--host", server.url, *SMALL]) == 0
        code, said = error_of("submit", "mine", "--host", server.url, *SMALL, "--max_steps", "3")
    run = only_run(server)
    assert code == 2 and f"headrace cancel {run['run_id']}" in said


def test_a_run_that_has_ended_is_no_obstacle() -> None:
    with KfpServer(looks=["FAILED"]) as server:
        assert main(["submit", "mine", "--host", server.url, *SMALL]) == 0
        next(iter(server.runs.values()))["state"] = "FAILED"
        assert main(["submit", "mine", "--host", server.url, *SMALL]) == 0
    assert server.violations == [] and len(server.runs) == 2


@pytest.mark.parametrize("status", [RESET, 504, STALL])
def test_a_lost_reply_starts_no_second_run(
    status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asking, "REPLY_S", 2.0)
    with KfpServer(looks=["RUNNING"]) as server:
        server.faults = [Fault(CREATE, status, acted=True)]
        assert main(["submit", "mine", "--host", server.url, *SMALL]) == 0
    assert only_run(server)["run_id"] in capsys.readouterr().out
    assert len(server.calls(CREATE)) == 1


def test_a_lost_reply_does_not_adopt_the_run_of_before() -> None:
    with KfpServer(looks=["FAILED"]) as server:
        assert main(["submit", "mine", "--host", server.url, *SMALL]) == 0
        (before,) = server.runs
        server.runs[before]["state"] = "FAILED"
        server.faults = [Fault(CREATE, RESET)]
        assert main(["submit", "mine", "--host", server.url, *SMALL]) == 1
    assert list(server.runs) == [before]


@pytest.mark.parametrize("status", [RESET, 500, 503])
def test_a_request_that_was_lost_says_that_nothing_was_started(status: int, error_of: ErrorOf) -> None:
    with KfpServer() as server:
        server.faults = [Fault(CREATE, status)]
        code, said = error_of("submit", "mine", "--host", server.url, *SMALL)
        assert code == 1 and server.runs == {} and "no run has appeared; run the same command again" in said
        assert main(["submit", "mine", "--host", server.url, *SMALL]) == 0
    only_run(server)


@pytest.mark.parametrize("on", ["POST /experiments$", "POST /pipelines$", "POST /pipelines/upload_version$"])
@pytest.mark.parametrize("status", [RESET, 409])
def test_whatever_else_is_made_is_made_once_when_replies_are_lost(on: str, status: int) -> None:
    with KfpServer() as server:
        server.faults = [Fault(on, status, acted=True)]
        assert main(["submit", "mine", "--host", server.url, *SMALL]) == 0
    only_run(server)
    assert len(server.experiments) == len(server.pipelines) == len(server.versions) == 1


@pytest.mark.parametrize(
    ("status", "says"), [(400, "refused (400)"), (401, "HEADRACE_KFP_TOKEN"), (403, "ask for access"), (404, "--host")]
)
def test_a_refusal_is_not_worth_a_retry(status: int, says: str, error_of: ErrorOf) -> None:
    with KfpServer(faults=[Fault("/runs", status)]) as server:
        code, said = error_of("submit", "mine", "--host", server.url, *SMALL)
    assert code == 2 and f"refused ({status}): the database is away" in said and says in said and server.runs == {}


def test_a_server_that_dies_before_anything_is_started(error_of: ErrorOf) -> None:
    with KfpServer(faults=[Fault("GET /runs", RESET, times=9)]) as server:
        code, said = error_of("submit", "mine", "--host", server.url, *SMALL)
    assert code == 1 and "cannot reach" in said and server.runs == {}


@pytest.mark.parametrize(("last", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 1), ("SKIPPED", 1)])
def test_waiting_ends_on_every_last_state(last: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(looks=["PENDING", "RUNNING", "RUNNING", last]) as server:
        assert main(["submit", "mine", "--host", server.url, "--wait", "--poll_s", "0.01", *SMALL]) == code
    assert server.violations == []
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].split() == ["state", last]
    assert [line.split()[1:] for line in said.err.splitlines()[:3]] == [
        ["mine", s] for s in ("PENDING", "RUNNING", last)
    ]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["mine", *SMALL], "no Kubeflow Pipelines host is known"),
        (["mine", "--host", "ftp://there", *SMALL], "no URL of a web server"),
        (["mine", "--host", "http://there:many", *SMALL], "is no URL"),
        (["mine", "--host", "http://me:hf_x@there", *SMALL], "--host holds a name or password"),
        ([*SMALL], "required: name"),
        (["mine", "--host", "http://127.0.0.1:9", "--max_steps", "3"], "unrecognized arguments: --max_steps"),
        (["mine", "--host", "http://127.0.0.1:9", "--", "--dataset_name", "data"], "--model_name_or_path is missing"),
        (["mine", "--host", "http://127.0.0.1:9", *SMALL, "--max_step", "3"], "(nearest: max_steps"),
        (["mine", "--host", "http://127.0.0.1:9", *SMALL, "--evaluation_strategy", "no"], "is gone from"),
        (["mine", "--host", "http://127.0.0.1:9", *SMALL, "--hub_token", "hf_x"], "--hub_token would lie"),
        (["mine", "--host", "http://127.0.0.1:9", *SMALL, "--do_train", "false"], "--do_train is false"),
    ],
)
def test_mistakes_are_told_before_anything_is_sent(argv: list[str], says: str, error_of: ErrorOf) -> None:
    code, said = error_of("submit", *argv)
    assert code == 2 and says in said and "hf_x" not in said
