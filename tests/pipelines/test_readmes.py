"""A room's README: its own words, and a part that is made of its component."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import InputError
from headrace.images import ROOMS
from headrace_pipelines.readmes import BEGIN, END, README, made, readme, specifications
from tests.pipelines.checkout import FILES, ROOT

WORDS = st.text(st.characters(codec="utf-8")).filter(lambda text: BEGIN not in text and END not in text)


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@settings(deadline=None)  # the first call imports kfp
@given(above=WORDS, old=WORDS, below=WORDS)
def test_words_around_the_marks_stay(above: str, old: str, below: str) -> None:
    fresh = readme("validate", f"{above}{BEGIN}{old}{END}{below}")
    assert fresh.startswith(f"{above}{BEGIN}\n\n## The component `validate`") and fresh.endswith(f"\n{END}{below}")
    assert readme("validate", fresh) == fresh


@pytest.mark.parametrize("text", ["", BEGIN, END, END + BEGIN, BEGIN + END + END, BEGIN + END + BEGIN])
def test_marks_that_are_no_pair(text: str) -> None:
    with pytest.raises(InputError, match="no generated part, or more than one"):
        readme("validate", text)


@pytest.mark.parametrize("room", ROOMS)
def test_every_port_of_every_component_is_described(room: str) -> None:
    part = made(room, "")
    specs = specifications(room)
    assert specs[0].name == room
    ports = [name for spec in specs for name in (*(spec.inputs or {}), *(spec.outputs or {}))]
    rows = re.findall(r"(?m)^\| `(\w+)` \|.*$", part)
    assert sorted(rows) == sorted(ports) and len(rows) > 10
    assert not re.search(r"\|  \|$", part, re.MULTILINE)


def test_a_default_is_told_from_what_must_be_given() -> None:
    part = made("validate", "")
    assert re.search(r"\| `dataset_name` \| String \| required \|", part)
    assert re.search(r"\| `dataset_revision` \| String \| `''` \|", part)


def test_the_wheel_carries_the_papers(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    for room in ROOMS:
        for name in FILES:
            assert held[f"headrace/{room}/{name}"] == (ROOT / "components/headrace" / room / name).read_bytes()
    assert README in FILES
