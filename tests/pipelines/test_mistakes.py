"""Flags of the connection and of the pace that no request could be made with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytestmark = pytest.mark.usefixtures("alone")
ErrorOf = Callable[..., tuple[int, str]]
NOBODY = ["--host", "http://127.0.0.1:9"]


@pytest.mark.parametrize(
    "host",
    [
        "http://foo..bar",
        "foo..bar",
        f"http://{'a' * 70}.org",
        "http://[::1",
        "http://a:99999",
        "https://",
        "http://:80",
    ],
)
def test_a_host_that_is_no_url(host: str, error_of: ErrorOf) -> None:
    code, said = error_of("list", "--host", host)
    assert code == 2 and "is no URL" in said and "https://host[:port]" in said


@pytest.mark.parametrize("host", ["me:hf_x@there", "http://me:hf_x@[::1", "https://hf_x@there?a=/b"])
def test_a_password_in_the_host_is_not_repeated(host: str, error_of: ErrorOf) -> None:
    code, said = error_of("list", "--host", host)
    assert code == 2 and "--host holds a name or password" in said and "hf_x" not in said


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1e300", "soon"])
@pytest.mark.parametrize(
    ("command", "flag"),
    [("watch", "--poll_s"), ("watch", "--patience_s"), ("logs", "--poll_s"), ("submit", "--poll_s"),
     ("cancel", "--poll_s"), ("cancel", "--wait_s")],
)  # fmt: skip
def test_a_time_that_nobody_can_wait_for(command: str, flag: str, value: str, error_of: ErrorOf) -> None:
    code, said = error_of(command, "mine", flag, value, *NOBODY)
    assert code == 2 and flag in said


@pytest.mark.parametrize("command", ["watch", "cancel"])
def test_looks_without_a_pause(command: str, error_of: ErrorOf) -> None:
    code, said = error_of(command, "mine", "--poll_s", "0", *NOBODY)
    assert code == 2 and "--poll_s is 0" in said and "more than 0" in said


@pytest.mark.parametrize("value", ["0", "9" * 30])
def test_a_number_of_runs_that_no_list_has(value: str, error_of: ErrorOf) -> None:
    code, said = error_of("list", "--limit", value, *NOBODY)
    assert code == 2 and "expected 1 to 1,000,000" in said
