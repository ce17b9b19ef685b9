"""The standard five fields, as Kubeflow's scheduler reads them."""

from __future__ import annotations

import datetime

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import InputError
from headrace_pipelines.cron import next_times, with_seconds

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("five", "six"),
    [
        ("30 2 * * *", "0 30 2 * * *"),
        ("*/15 * * * *", "0 */15 * * * *"),
        ("0 2 * * 7", "0 0 2 * * 0"),
        ("0 2 * * mon-fri", "0 0 2 * * 1,2,3,4,5"),
        ("0 2 * * 5-7", "0 0 2 * * 0,5,6"),
        ("0 2 * * */3,sun,7", "0 0 2 * * */3,0,0"),
        ("5,10-12 0-12/6 1 jan,jul *", "0 5,10,11,12 0,6,12 1 1,7 *"),
    ],
)
def test_the_six_fields(five: str, six: str) -> None:
    assert with_seconds(five) == six


@pytest.mark.parametrize(
    ("cron", "says"),
    [
        ("30 2 * *", "4 fields"), ("0 30 2 * * *", "6 fields"), ("60 2 * * *", "bad minute: 60"),
        ("30 24 * * *", "bad hour"), ("30 2 0 * *", "bad day-of-month"), ("30 2 * 13 *", "bad month"),
        ("30 2 * * 8", "bad day-of-week"), ("30 2 * * 5-1", "bad day-of-week"), ("30 2 L * *", "extension"),
        ("30 2 LW * *", "extension"), ("30 2 * * 5L", "extension"), ("30 2 * * 5#2", "extension"),
        ("30 2 ? * *", "bad day-of-month"), ("*/0 * * * *", "bad minute"), ("", "0 fields"), ("@daily", "1 fields"),
        ("0 0 30 2 *", "bad day-of-month"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(cron: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        with_seconds(cron)
        next_times(cron, NOW)


def test_the_next_times() -> None:
    found = [f"{time:%a %m-%d %H:%M}" for time in next_times("30 2 * * 1-5", NOW)]
    assert found == ["Mon 03-02 02:30", "Tue 03-03 02:30", "Wed 03-04 02:30"]


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    spans = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    steps = st.tuples(st.one_of(st.just("*"), spans), st.integers(1, 9)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    one = st.one_of(number.map(str), spans, steps)
    return st.one_of(st.just("*"), st.lists(one, min_size=1, max_size=3).map(",".join))


@given(st.tuples(fields(0, 59), fields(0, 23), fields(1, 28), fields(1, 12), fields(0, 7)).map(" ".join))
def test_six_fields_mean_what_the_five_mean(cron: str) -> None:
    six = with_seconds(cron)
    assert next_times(cron, NOW) == [time for time, _ in zip(CronSim(six, NOW), range(3), strict=False)]
    days = six.split()[5].split(",")
    assert "7" not in days and cron.split()[4].startswith("*") == ("*" in six.split()[5])
