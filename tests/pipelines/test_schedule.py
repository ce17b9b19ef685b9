"""`headrace schedule`: a recurring run made once, listed, paused, ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace_pipelines.__main__ import main
from tests.pipelines.kfp_server import RESET, Fault, KfpServer

pytestmark = pytest.mark.usefixtures("alone")
ErrorOf = Callable[..., tuple[int, str]]
SMALL = ["--", "--dataset_name", "data", "--model_name_or_path", "gpt2"]
MAKE = "POST /recurringruns$"


def nightly(server: KfpServer, *flags: str, cron: str = "30 2 * * 1-5") -> list[str]:
    return ["schedule", "nightly", "--cron", cron, "--host", server.url, *flags, *SMALL]


def only_schedule(server: KfpServer) -> dict[str, Any]:
    assert server.violations == []
    (made,) = server.schedules.values()
    return made


def test_what_is_sent_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer() as server:
        assert main(nightly(server, "--no_catchup", "--max_concurrency", "2")) == 0
    made = only_schedule(server)
    assert made["trigger"]["cron_schedule"]["cron"] == "0 30 2 * * 1,2,3,4,5"
    assert (made["no_catchup"], made["max_concurrency"], made["status"]) == (True, 2, "ENABLED")
    assert made["runtime_config"]["parameters"]["dataset_name"] == "data"
    assert made["pipeline_version_reference"]["pipeline_version_id"] in server.versions
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["schedule", "id", "cron", "next", "next", "next"]
    assert all("02:30 UTC" in line for line in said[3:])


def test_the_same_command_makes_no_second_one() -> None:
    with KfpServer() as server:
        assert main(nightly(server)) == main(nightly(server)) == 0
    only_schedule(server)


@pytest.mark.parametrize("change", [["--no_catchup"], ["--max_concurrency", "3"], "0 3 * * *", "flags"])
def test_another_one_of_that_name_is_named(change: list[str] | str, error_of: ErrorOf) -> None:
    with KfpServer() as server:
        assert main(nightly(server)) == 0
        if change == "flags":
            argv = [*nightly(server), "--max_steps", "3"]
        else:
            argv = nightly(server, *change) if isinstance(change, list) else nightly(server, cron=change)
        code, said = error_of(*argv)
    assert code == 2 and "headrace schedule --delete nightly" in said
    only_schedule(server)


@pytest.mark.parametrize("status", [RESET, 503])
def test_a_lost_reply_makes_no_second_one(status: int) -> None:
    with KfpServer(faults=[Fault(MAKE, status, acted=True)]) as server:
        assert main(nightly(server)) == 0
    only_schedule(server)


def test_pausing_resuming_listing_and_ending(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer() as server:
        assert main(nightly(server)) == 0
        states = []
        for verb in ("--pause", "--resume"):
            assert main(["schedule", verb, "nightly", "--host", server.url]) == 0
            capsys.readouterr()
            assert main(["schedule", "--list", "--host", server.url]) == 0
            states.append(capsys.readouterr().out.splitlines()[-1].split()[:2])
        assert states == [["nightly", "DISABLED"], ["nightly", "ENABLED"]]
        assert main(["schedule", "--delete", "nightly", "--host", server.url]) == 0
        assert capsys.readouterr().out.startswith("deleted    nightly")
    assert server.schedules == {} and server.violations == []


@pytest.mark.parametrize("verb", ["--pause", "--resume", "--delete"])
def test_one_that_is_not_there(verb: str, error_of: ErrorOf) -> None:
    with KfpServer() as server:
        server.add_experiment("headrace")
        code, said = error_of("schedule", verb, "nigthly", "--host", server.url)
    assert code == 2 and "0 schedules called 'nigthly'" in said


def test_nothing_scheduled(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer() as server:
        assert main(["schedule", "--list", "--host", server.url]) == 0
    assert capsys.readouterr().out == "no schedules\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nightly", *SMALL], "needs NAME and --cron"),
        (["--cron", "30 2 * * *", *SMALL], "needs NAME and --cron"),
        (["nightly", "--cron", "30 2 * *", *SMALL], "4 fields"),
        (["nightly", "--cron", "0 0 30 2 *", *SMALL], "bad day-of-month"),
        (["nightly", "--cron", "30 2 * * *"], "--dataset_name is missing"),
        (["nightly", "--cron", "30 2 * * *", "--max_concurrency", "11", *SMALL], "expected 1 to 10"),
        (["nightly", "--list"], "--list stands alone"),
        (["--pause", "a", "--delete", "b"], "stands alone"),
    ],
)
def test_mistakes_are_told_before_anything_is_sent(words: list[str], says: str, error_of: ErrorOf) -> None:
    code, said = error_of("schedule", "--host", "http://127.0.0.1:9", *words)
    assert code == 2 and says in said
