"""`python -m headrace_pipelines.verified`: how long ago each room was verified."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headrace.images import ROOMS
from headrace_pipelines import verified
from headrace_pipelines.metadata import problems
from tests.pipelines.checkout import copy_checkout


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The training's metadata.yaml in a copy whose rooms were all verified today."""
    copy_checkout(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "--today") == 0
    return tmp_path / "components/headrace/train/metadata.yaml"


def run(monkeypatch: pytest.MonkeyPatch, *flags: str) -> int:
    monkeypatch.setattr(sys, "argv", ["verified", *flags])
    return verified.main()


def date(path: Path, days_ago: int) -> None:
    then = datetime.now(UTC) - timedelta(days=days_ago)
    path.write_text(re.sub(r"(?m)^lastVerified: .*$", f"lastVerified: {then:%Y-%m-%dT%H:%M:%SZ}", path.read_text()))


@pytest.mark.parametrize(("days", "code"), [(0, 0), (269, 0), (270, 1), (800, 1)])
def test_nine_months_are_too_long(
    days: int, code: int, room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    date(room, days)
    capsys.readouterr()
    assert run(monkeypatch) == code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(ROOMS)
    (told,) = (line for line in lines if "/train/" in line)
    assert f"verified {days} days ago" in told and ("run `make verified`" in told) == bool(code)


def test_the_age_alone_makes_no_checkout_bad(room: Path) -> None:
    date(room, 4000)
    assert problems(datetime.now(UTC)) == []


def test_dating_changes_the_date_alone(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    today = room.read_text()
    date(room, 300)
    assert room.read_text() != today
    assert run(monkeypatch, "--today") == 0
    assert room.read_text() == today and problems(datetime.now(UTC)) == []


def test_no_date_at_all(room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    room.write_text("name: headrace_train\n")
    assert run(monkeypatch) == 2
    assert "has no time in lastVerified" in capsys.readouterr().err
