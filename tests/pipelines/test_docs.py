"""What is made of the code says what the code does."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from headrace.images import ROOMS
from headrace.options.parse import known_flags
from headrace_pipelines import docs
from headrace_pipelines.readmes import END
from tests.pipelines.checkout import ROOT, copy_checkout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy_checkout(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *flags: str) -> int:
    monkeypatch.setattr(sys, "argv", ["docs", *flags])
    return docs.main()


def test_everything_is_fresh_and_right(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert run(monkeypatch, "--check") == 0, capsys.readouterr().err


@pytest.mark.parametrize("path", ["docs/flags.md", *(f"components/headrace/{room}/README.md" for room in ROOMS)])
def test_a_stale_file_is_named_and_made_anew(
    path: str, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = (checkout / path).read_text("utf-8")
    (checkout / path).write_text(fresh.replace("`dataset_name`", "`data_name`"))
    assert run(monkeypatch, "--check") == 1
    assert capsys.readouterr().err == (f"headrace: error: {path} is stale; run `python -m headrace_pipelines.docs`\n")
    assert run(monkeypatch) == 0 and capsys.readouterr().out == f"{path}\n"
    assert (checkout / path).read_text("utf-8") == fresh
    assert run(monkeypatch) == 0 and capsys.readouterr().out == "\n"


def test_a_page_that_is_not_there_is_made(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = docs.PATH.read_text("utf-8")
    docs.PATH.unlink()
    assert run(monkeypatch, "--check") == 1
    assert run(monkeypatch) == 0 and docs.PATH.read_text("utf-8") == fresh


@pytest.mark.parametrize(
    ("path", "old", "new", "says"),
    [
        ("train/README.md", END, "", "has no generated part, or more than one"),
        ("train/metadata.yaml", "stability: beta", "stability: fine", "stability is 'fine'"),
        ("train/metadata.yaml", "- name: Pipelines", "- name: [", "cannot be read as YAML"),
        ("train/OWNERS", "approvers", "reviewers", "approvers are None"),
    ],
)
def test_a_wrong_room_is_told_without_a_traceback(
    path: str, old: str, new: str, says: str,
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = checkout / "components/headrace" / path
    file.write_text(file.read_text("utf-8").replace(old, new))
    assert run(monkeypatch, "--check") in (1, 2)
    said = capsys.readouterr().err
    assert said.startswith("headrace: error: ") and says in said and f"components/headrace/{path}" in said


def test_a_room_without_a_readme_is_told(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "components/headrace/train/README.md").unlink()
    assert run(monkeypatch) == 2
    assert "components/headrace/train/README.md has no generated part" in capsys.readouterr().err


def test_every_flag_and_every_parameter_is_described() -> None:
    page = docs.flags_page()
    assert all(f"| `--{name}` |" in page for name in known_flags())
    rows = [line for line in page.partition("## Parameters")[2].splitlines() if re.match(r"\| `", line)]
    assert len(rows) >= 8 and not [row for row in rows if row.endswith("|  |")]
