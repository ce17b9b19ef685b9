"""`headrace submit` with kfp's own client, against a server that speaks the official API."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from headrace_pipelines import submit
from headrace_pipelines.__main__ import main
from tests.pipelines.kfp_server import KfpServer

RECIPE = """--dataset_streaming true --do_train --eval_strategy no --dataset_name HuggingFaceFW/fineweb
    --dataset_config_name CC-MAIN-2024-10 --dataset_group_text true --dataloader_num_workers 8 --max_steps 2500
    --model_name_or_path openai-community/gpt2 --output_dir /output-checkpoint --per_device_train_batch_size 8
    --logging_steps 50 --save_steps 1000"""
SMALL = ["--", "--dataset_name", "data", "--model_name_or_path", "gpt2"]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No host, context or kubeconfig of whoever runs the tests; and no waiting."""
    for name in ("HEADRACE_KFP_HOST", "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(submit, "POLL_S", 0.01)


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
    assert run["pipeline_spec"]["pipelineInfo"]["name"] == "headrace"
    said = capsys.readouterr()
    assert f"{server.url}/#/runs/details/run-1" in said.out and "run-1" in said.out.splitlines()[1]
    assert "--output_dir /output-checkpoint" in said.err
    assert "Traceback" not in said.err and "Warning" not in said.err


def test_the_experiment_is_made_once(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer() as server:
        for name in ("first", "second"):
            assert main(["submit", name, "--host", server.url, "--experiment", "nightly", *SMALL]) == 0
    assert [e["display_name"] for e in server.experiments] == ["nightly"]
    assert {run["experiment_id"] for run in server.runs.values()} == {"experiment-1"}


def test_a_namespace_is_passed_on() -> None:
    with KfpServer() as server:
        assert main(["submit", "mine", "--host", server.url, "--namespace", "team-a", *SMALL]) == 0
    assert server.experiments[0]["namespace"] == "team-a"
    assert all(r.query["namespace"] == ["team-a"] for r in server.requests if "filter" in r.query)


def test_the_host_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with KfpServer() as server:
        monkeypatch.setenv("HEADRACE_KFP_HOST", server.url)
        assert main(["submit", "mine", *SMALL]) == 0
    assert only_run(server)["display_name"] == "mine"


@pytest.mark.parametrize(("last", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 1), ("SKIPPED", 1)])
def test_waiting_ends_on_every_last_state(last: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(states=["PENDING", "RUNNING", "RUNNING", last]) as server:
        assert main(["submit", "mine", "--host", server.url, "--wait", *SMALL]) == code
    assert server.violations == []
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].split() == ["state", last]
    assert [line.split()[-1] for line in said.err.splitlines()] == ["PENDING", "RUNNING", last]


def test_waiting_outlasts_a_server_that_is_away_for_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(states=["RUNNING", "SUCCEEDED"]) as server:
        create = server.reply

        def then_away(request: Any) -> tuple[int, Any]:
            if request.method == "POST" and request.path.endswith("/runs"):
                server.failures = [503, 500, 503]
            return create(request)

        server.reply = then_away  # type: ignore[method-assign]
        assert main(["submit", "mine", "--host", server.url, "--wait", *SMALL]) == 0
    assert "RUNNING" in capsys.readouterr().err


def error_of(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and what stderr says, which must be an error and a remedy."""
    code = main(argv)
    said = capsys.readouterr().err
    lines = said.splitlines()
    assert [line.startswith("headrace: error: ") for line in lines] == [True, False], said
    return code, said


def test_a_server_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(failures=[500]) as server:
        code, said = error_of(["submit", "mine", "--host", server.url, *SMALL], capsys)
    assert code == 1 and "failed (500): " in said and "the database is away" in said


def test_a_refusal_is_not_worth_a_retry(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(failures=[403]) as server:
        code, said = error_of(["submit", "mine", "--host", server.url, *SMALL], capsys)
    assert code == 2 and "refused (403)" in said and server.runs == {}


def test_a_connection_that_is_reset(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(failures=[0, 0, 0, 0]) as server:
        code, said = error_of(["submit", "mine", "--host", server.url, *SMALL], capsys)
    assert code == 1 and "cannot reach" in said


def test_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer() as server:
        url = server.url
    code, said = error_of(["submit", "mine", "--host", url, *SMALL], capsys)
    assert code == 1 and f"cannot reach {url}: Connection refused" in said and "try again" in said


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["mine", *SMALL], "no Kubeflow Pipelines host is known"),
        (["mine", "--host", "ftp://there", *SMALL], "no URL of a web server"),
        (["mine", "--host", "http://there:many", *SMALL], "is no URL"),
        ([*SMALL], "required: name"),
        (["mine", "--host", "http://127.0.0.1:9", "--max_steps", "3"], "unrecognized arguments: --max_steps"),
        (["mine", "--host", "http://127.0.0.1:9", "--", "--dataset_name", "data"], "--model_name_or_path is missing"),
        (["mine", "--host", "http://127.0.0.1:9", *SMALL, "--max_step", "3"], "(nearest: max_steps"),
        (["mine", "--host", "http://127.0.0.1:9", *SMALL, "--evaluation_strategy", "no"], "is gone from"),
        (["mine", "--host", "http://127.0.0.1:9", *SMALL, "--hub_token", "hf_x"], "--hub_token would lie"),
        (["mine", "--host", "http://127.0.0.1:9", *SMALL, "--do_train", "false"], "--do_train is false"),
    ],
)
def test_mistakes_are_told_before_anything_is_sent(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = error_of(["submit", *argv], capsys)
    assert code == 2 and says in said and "hf_x" not in said


def test_help_needs_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--help"]) == 0
    assert "-- FLAGS" in capsys.readouterr().out


def test_the_package_that_is_sent_is_the_one_compile_writes(tmp_path: Path) -> None:
    import yaml

    with KfpServer() as server:
        assert main(["submit", "mine", "--host", server.url, *SMALL]) == 0
    assert main(["compile", "-o", str(tmp_path / "p.yaml")]) == 0
    compiled = yaml.safe_load((tmp_path / "p.yaml").read_text())
    sent = only_run(server)["pipeline_spec"]
    assert json.dumps(sent["deploymentSpec"], sort_keys=True) == json.dumps(compiled["deploymentSpec"], sort_keys=True)
