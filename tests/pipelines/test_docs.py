"""docs/flags.md says what the code does."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from headrace.options.parse import known_flags
from headrace_pipelines import docs

ROOT = Path(__file__).parents[2]


def test_the_page_is_fresh(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["docs", "--check"])
    assert docs.main() == 0, capsys.readouterr().err


def test_a_stale_page_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["docs"])
    assert docs.main() == 0
    with docs.PATH.open("a") as page:
        page.write("more\n")
    monkeypatch.setattr(sys, "argv", ["docs", "--check"])
    assert docs.main() == 1
    assert "docs/flags.md is stale" in capsys.readouterr().err


def test_every_flag_and_every_port_is_described() -> None:
    page = docs.flags_page()
    assert all(f"| `--{name}` |" in page for name in known_flags())
    components = page.partition("## Components")[2]
    rows = [line for line in components.splitlines() if re.match(r"\| `", line)]
    assert len(rows) > 40 and not [row for row in rows if row.endswith("|  |")]
