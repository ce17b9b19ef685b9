"""Reports that no plan can stand on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import InputError
from headrace.forecast.amounts import REPORT_VERSION, read_report
from headrace.validate.report import VERSION


def test_the_version_is_that_of_validate() -> None:
    assert REPORT_VERSION == VERSION


@pytest.mark.parametrize("version", [1, 3, None, "2"])
def test_a_report_of_another_version_is_refused(version: Any, report: Path) -> None:
    found = json.loads((report / "report.json").read_text())
    (report / "report.json").write_text(json.dumps({**found, "version": version}))
    with pytest.raises(InputError, match=f"is a report of version {version}, expected 2"):
        read_report(str(report))


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("dataset", "rows", None), ("dataset", "text_bytes", "many"), ("tokenizer", "size", 1.5), ("model", "name", 3),
        ("plan", "block", 0), ("plan", "lanes", -1), ("plan", "mixture", None), ("estimates", "train_tokens", True),
        ("estimates", "tokens_interval", [1]), ("estimates", "tokens", 10**30),
    ],
)  # fmt: skip
def test_a_report_without_what_is_reckoned_with_is_refused(part: str, name: str, value: Any, report: Path) -> None:
    found = json.loads((report / "report.json").read_text())
    for changed in ({**found[part], name: value}, {k: v for k, v in found[part].items() if k != name}):
        (report / "report.json").write_text(json.dumps({**found, part: changed}))
        with pytest.raises(InputError, match=f"was changed: it has no usable {part}.{name}"):
            read_report(str(report))
    (report / "report.json").write_text(json.dumps({**found, part: ["no object"]}))
    with pytest.raises(InputError, match=f"no usable {part}"):
        read_report(str(report))


def test_a_no_go_whose_findings_are_none(report: Path) -> None:
    found = json.loads((report / "report.json").read_text())
    (report / "report.json").write_text(json.dumps({**found, "verdict": "no-go", "findings": None}))
    with pytest.raises(InputError, match="says no-go: see the report"):
        read_report(str(report))
