"""`headrace watch`: a run followed to its end, through whatever happens to the server."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from headrace_pipelines.__main__ import main
from tests.pipelines.kfp_server import RESET, Fault, KfpServer, Look

pytestmark = pytest.mark.usefixtures("alone")
ErrorOf = Callable[..., tuple[int, str]]
FAST = ["--poll_s", "0.01"]
SMALL = ["--", "--dataset_name", "data", "--model_name_or_path", "gpt2"]


def task(name: str, state: str, error: str = "") -> dict[str, Any]:
    more = {"error": {"message": error}} if error else {}
    return {"display_name": name, "state": state, "start_time": "2026-03-01T00:00:00Z",
            "end_time": "2026-03-01T00:01:07Z", **more}  # fmt: skip


VALIDATED = [task("root-driver", "SUCCEEDED"), task("validate-driver", "SUCCEEDED"), task("validate", "SUCCEEDED")]


def submitted(server: KfpServer) -> str:
    assert main(["submit", "mine", "--host", server.url, *SMALL]) == 0
    (run_id,) = server.runs
    return run_id


def lines_of(said: str) -> list[str]:
    """Without the clock."""
    return [line.partition(" ")[2] for line in said.splitlines()]


def test_lines_for_every_change_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    looks: list[Look | str] = [
        "PENDING",
        Look("RUNNING", [task("validate", "RUNNING")]),
        Look("RUNNING", [*VALIDATED, task("train-driver", "RUNNING")]),
        Look("RUNNING", [*VALIDATED, task("train", "RUNNING")]),
        Look("SUCCEEDED", [*VALIDATED, task("train", "SUCCEEDED"), task("condition-3", "SUCCEEDED")],
             {"plugins_output": {"mlflow": {"entries": {"run": {"value": "http://mlflow/7"}}}}}),
    ]  # fmt: skip
    with KfpServer(looks) as server:
        submitted(server)
        capsys.readouterr()
        assert main(["watch", "mine", "--host", server.url, *FAST]) == 0
    said = capsys.readouterr()
    assert said.out == "state      SUCCEEDED\n" and server.violations == []
    assert lines_of(said.err) == [
        "mine PENDING", "mine RUNNING", "validate RUNNING", "validate SUCCEEDED after 1 min 07 s", "train PENDING",
        "train RUNNING", "mine SUCCEEDED", "train SUCCEEDED after 1 min 07 s", "mlflow run http://mlflow/7",
    ]  # fmt: skip


def test_a_name_is_the_newest_run_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer() as server:
        server.add_run("mine", "FAILED")
        server.add_run("mine", "SUCCEEDED")
        server.add_run("another", "CANCELED")
        assert main(["watch", "mine", "--host", server.url]) == 0


ENDS: list[tuple[str, Sequence[dict[str, Any]], int, str]] = [
    ("FAILED", [*VALIDATED, task("train", "FAILED", "OOM"), task("condition-3", "FAILED")], 1, "failed in train: OOM"),
    ("FAILED", [*VALIDATED, task("refuse", "FAILED", "no tokens")], 3, "was refused: no tokens"),
    ("FAILED", [task("validate", "FAILED")], 1, "--step validate"),
    ("FAILED", [], 1, "no step that the API names"),
    ("CANCELED", VALIDATED, 1, "was canceled"),
    ("SKIPPED", [], 1, "was skipped"),
]


@pytest.mark.parametrize(("state", "tasks", "code", "says"), ENDS)
def test_every_end_has_its_exit_code(
    state: str, tasks: Sequence[dict[str, Any]], code: int, says: str, error_of: ErrorOf
) -> None:
    with KfpServer([Look("RUNNING"), Look(state, tasks)]) as server:
        run_id = submitted(server)
        assert (found := error_of("watch", run_id, "--host", server.url, *FAST))[0] == code
    assert says in found[1] and server.violations == []


def test_it_outlasts_a_server_that_is_away_for_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(["RUNNING", "SUCCEEDED"]) as server:
        run_id = submitted(server)
        server.faults = [Fault(f"GET /runs/{run_id}", status) for status in (503, 500, 429, RESET, RESET, RESET, RESET)]
        server.faults.append(Fault("/versions/", 500))
        assert main(["watch", "mine", "--host", server.url, *FAST]) == 0
    said = capsys.readouterr().err
    assert "looking again in 0.01 s" in said and "looking again in 0.04 s" in said


def test_a_server_that_dies_is_waited_for_a_while(error_of: ErrorOf) -> None:
    server = KfpServer(["RUNNING"])
    with server:
        run_id = server.add_run("mine", fixed=False)

        def then_dead(request: object) -> None:
            if len(server.calls(f"GET /runs/{run_id}")) == 3:
                server.faults = [Fault("/", RESET, times=10**6)]

        server.before = then_dead
        code, said = error_of("watch", "mine", "--host", server.url, *FAST, "--patience_s", "0.1")
    assert code == 1 and f"lost sight of the run {run_id}" in said and "it goes on without us" in said


@pytest.mark.parametrize(("status", "says"), [(401, "HEADRACE_KFP_TOKEN"), (403, "ask for access"), (404, "check the")])
def test_a_refusal_in_the_middle_ends_it(status: int, says: str, error_of: ErrorOf) -> None:
    with KfpServer(["RUNNING"]) as server:
        server.add_run("mine", fixed=False)
        server.faults = [Fault("GET /runs/", status)]
        code, said = error_of("watch", "mine", "--host", server.url, *FAST)
    assert code == 2 and f"refused ({status})" in said and says in said and "it goes on" in said


@pytest.mark.parametrize("name", ["mine", "6d2b1c1e-8a0e-4c43-9c5e-0a8d5d1f3a10"])
def test_a_run_that_is_not_there(name: str, error_of: ErrorOf) -> None:
    with KfpServer() as server:
        code, said = error_of("watch", name, "--host", server.url)
    assert code == 2 and "`headrace list`" in said


def test_the_steps_that_have_started_where_the_pipeline_cannot_be_had(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer([Look("SUCCEEDED", VALIDATED)]) as server:
        run_id = submitted(server)
        server.faults = [Fault("/versions/", 403)]
        assert main(["watch", run_id, "--host", server.url]) == 0
    said = capsys.readouterr().err
    assert "not shown" in said and "validate SUCCEEDED" in said


@pytest.mark.parametrize("flags", [["--poll_s", "0"], ["--poll_s", "x"], ["--patience_s", "-1"]])
def test_a_pace_that_is_none(flags: list[str], error_of: ErrorOf) -> None:
    assert error_of("watch", "mine", "--host", "http://127.0.0.1:9", *flags)[0] == 2


def started(server: KfpServer, tmp_path: Path, **how: Any) -> subprocess.Popen[bytes]:
    words = ["watch", "mine", "--host", server.url, "--poll_s", "0.05"]
    env = {**os.environ, "HOME": str(tmp_path), "COLUMNS": "100", "TERM": "xterm"}
    return subprocess.Popen([sys.executable, "-m", "headrace_pipelines", *words], env=env, **how)


def wait_for(there: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not there():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_ctrl_c_leaves_the_run_going(tmp_path: Path) -> None:
    with KfpServer(["RUNNING"]) as server:
        run_id = server.add_run("mine", fixed=False)
        child = started(server, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_for(lambda: len(server.calls("GET /runs/")) > 1)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130 and b"the run goes on" in err and b"Traceback" not in err and out == b""
    assert server.calls("POST") == [] and f"headrace cancel {run_id}".encode() in err


def test_a_table_in_a_terminal(tmp_path: Path) -> None:
    with KfpServer([Look("RUNNING", VALIDATED), Look("SUCCEEDED", [*VALIDATED, task("train", "SUCCEEDED")])]) as server:
        submitted(server)
        ours, theirs = pty.openpty()
        child = started(server, tmp_path, stdout=theirs, stderr=theirs)
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 4096):
                said += part
        except OSError:  # how a terminal tells that its other side is closed
            pass
        assert child.wait(60) == 0
        os.close(ours)
    text = said.decode()
    assert text.rindex("validate") < text.rindex("go") < text.rindex("train") < text.rindex("state ")
    assert "SUCCEEDED" in text and "1 min 07 s" in text and "driver" not in text
