"""Replies with status 200 that are no answers: cut off, empty, of another server. Nothing is taken from them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from headrace_pipelines.__main__ import main
from tests.pipelines.kfp_server import Fault, KfpServer

pytestmark = pytest.mark.usefixtures("alone")
ErrorOf = Callable[..., tuple[int, str]]
SMALL = ["--", "--dataset_name", "data", "--model_name_or_path", "gpt2"]


def cut(body: bytes) -> bytes:
    return body[:40]


def always(text: str | bytes) -> Callable[[bytes], bytes]:
    body = text if isinstance(text, bytes) else text.encode()
    return lambda _: body


NO_ANSWERS = [
    pytest.param(cut, "application/json", id="cut"),
    pytest.param(always(""), "application/json", id="empty"),
    pytest.param(always(""), "", id="empty-without-a-type"),
    pytest.param(always("<html>Log in</html>"), "", id="page-without-a-type"),
    *[
        pytest.param(always(text), "application/json", id=str(text))
        for text in ("null", "[]", "3", '"runs"', '{"error": "who is there?"}', b'{"total_size": 1, "runs": "\xc3')
    ],
]


@pytest.mark.parametrize(("spoil", "kind"), NO_ANSWERS)
def test_a_look_up_without_an_answer_starts_nothing(
    spoil: Callable[[bytes], bytes], kind: str, error_of: ErrorOf
) -> None:
    nothing_is_made_twice(Fault("GET /runs$", 200, times=9, spoil=spoil, kind=kind), error_of)


@pytest.mark.parametrize("on", ["GET /experiments$", "GET /pipelines$", "GET /pipelines/.*/versions$"])
def test_a_look_up_without_an_answer_makes_nothing(on: str, error_of: ErrorOf) -> None:
    nothing_is_made_twice(Fault(on, 200, times=9, spoil=cut), error_of)


def nothing_is_made_twice(fault: Fault, error_of: ErrorOf) -> None:
    with KfpServer(looks=["RUNNING"]) as server:
        assert main(["submit", "n", "--host", server.url, *SMALL]) == 0
        server.faults = [fault]
        code, said = error_of("submit", "n", "--host", server.url, *SMALL)
    assert code == 1 and f"{server.url} gave no answer of Kubeflow Pipelines" in said and "try again" in said
    assert [len(t) for t in (server.runs, server.versions, server.pipelines, server.experiments)] == [1] * 4


@pytest.mark.parametrize(
    "runs",
    ["5", "[5]", "[null]", '{"a": 1}', '[{"state": "RUNNING"}]', '[{"run_id": ""}]', '[{"run_id": "a", "error": 1}]'],
)
def test_a_list_of_what_are_no_runs(runs: str, error_of: ErrorOf) -> None:
    with KfpServer(faults=[Fault("GET /runs$", 200, spoil=always(f'{{"runs": {runs}}}'))]) as server:
        code, said = error_of("list", "--host", server.url)
    assert code == 1 and "gave no answer of Kubeflow Pipelines" in said


@pytest.mark.parametrize("body", ["", "{}", "null", '{"run_id": ""}'])
@pytest.mark.parametrize("made", ["experiments", "pipelines", "pipelines/upload_version", "runs"])
def test_a_reply_without_an_id_is_a_lost_one(made: str, body: str, capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(looks=["RUNNING"]) as server:
        server.faults = [Fault(f"POST /{made}$", 200, spoil=always(body))]
        assert main(["submit", "n", "--host", server.url, *SMALL]) == 0
    (run_id,) = server.runs
    assert f"id         {run_id}" in capsys.readouterr().out and server.violations == []


def test_a_schedule_without_an_id_is_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer() as server:
        server.faults = [Fault("POST /recurringruns$", 200, spoil=always(""))]
        assert main(["schedule", "n", "--cron", "0 2 * * *", "--host", server.url, *SMALL]) == 0
    (schedule_id,) = server.schedules
    assert f"id         {schedule_id}" in capsys.readouterr().out


def test_the_replies_to_verbs_say_nothing_and_may_be_empty() -> None:
    with KfpServer(looks=["RUNNING"]) as server:
        run_id = server.add_run("n", "RUNNING", fixed=False)
        assert main(["schedule", "n", "--cron", "0 2 * * *", "--host", server.url, *SMALL]) == 0
        server.faults = [Fault("terminate|:disable|DELETE", 200, times=9, spoil=always(""))]
        assert main(["cancel", run_id, "--host", server.url, "--poll_s", "0.01"]) == 0
        for verb in ("--pause", "--delete"):
            assert main(["schedule", verb, "n", "--host", server.url]) == 0
    assert server.schedules == {}


def test_a_watch_asks_again_after_what_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(looks=["RUNNING", "SUCCEEDED"]) as server:
        run_id = server.add_run("n", fixed=False)
        server.faults = [Fault(f"GET /runs/{run_id}", 200, spoil=spoil) for spoil in (lambda b: b, cut, always("null"))]
        assert main(["watch", run_id, "--host", server.url, "--poll_s", "0.01"]) == 0
    assert capsys.readouterr().err.count("gave no answer") == 2


@pytest.mark.parametrize("argv", [["list"], ["watch", "other"], ["schedule", "--list"]])
def test_a_list_without_an_end(argv: list[str], error_of: ErrorOf) -> None:
    def repeat(body: bytes) -> bytes:
        return json.dumps({**json.loads(body), "next_page_token": "0"}).encode()

    with KfpServer(faults=[Fault("GET /(runs|recurringruns)$", 200, times=99, spoil=repeat)]) as server:
        code, said = error_of(*argv, "--host", server.url)
    assert code == 1 and "a list without an end" in said
    assert len(server.calls("GET /(runs|recurringruns)$")) == 2


def test_a_run_without_the_time_of_its_making(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(looks=["RUNNING"]) as server:
        assert main(["submit", "n", "--host", server.url, *SMALL]) == 0
        (run,) = server.runs.values()
        del run["created_at"]
        assert main(["submit", "n", "--host", server.url, *SMALL]) == 0
        assert "the run goes on; nothing was started" in capsys.readouterr().out
        run["finished_at"] = "2026-03-01T09:00:00Z"
        assert main(["list", "--host", server.url]) == 0
        assert capsys.readouterr().out.splitlines()[1].split() == ["n", "PENDING", run["run_id"]]
        assert main(["list", "--json", "--host", server.url]) == 0
    assert json.loads(capsys.readouterr().out)["created_at"] is None


@pytest.mark.parametrize("body", ["", "null", "[]"])
def test_a_greeting_that_is_no_answer_is_no_traceback(body: str, error_of: ErrorOf) -> None:
    with KfpServer(faults=[Fault("", 200, times=9, spoil=always(body))]) as server:
        code, said = error_of("list", "--host", server.url)
    assert code == 1 and "gave no answer of Kubeflow Pipelines" in said
