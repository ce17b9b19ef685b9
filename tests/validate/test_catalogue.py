"""docs/validation.md says what reports hold."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.validate import catalogue
from headrace.validate.catalogue import CODES, FIELDS, PATH, filled
from tests.validate.conftest import CORPUS, ROOT, Result

TYPES = {"int": int, "str": str, "list": list, "object": dict}


def test_the_page_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["catalogue", "--check"])
    assert catalogue.main() == 0, "python -m headrace.validate.catalogue"
    page = PATH.read_text("utf-8")
    assert filled(page.replace("| `sampled` |", "| `smapled` |")) == page


def test_it_lists_the_codes_that_the_checks_give_and_no_other() -> None:
    checks = "".join(p.read_text() for p in (ROOT / "components/headrace/validate/checks").glob("*.py"))
    given = set(re.findall(r'code="([\w-]+)"', checks)) | set(re.findall(r'^ +"([a-z]+(?:-[a-z]+)+)", ', checks, re.M))
    given |= set(re.findall(r'\("((?:personal|secrets|unreadable|missing|wrong)[\w-]*)"', checks))
    given |= set(re.findall(r'"((?:column|text)-drift)"', checks))
    assert {c for c in CODES if c not in given} == set()
    assert {c for c in re.findall(r'code="([\w-]+)"', checks) if c not in CODES} == set()


def test_a_report_holds_the_fields_that_it_lists(validate: Callable[..., Result]) -> None:
    report = validate(CORPUS, "--heldout_fraction", "0.1").report
    assert report is not None and list(report) == list(FIELDS)
    for name, (kind, what) in FIELDS.items():
        kinds = tuple(TYPES[k] for k in kind.split(" or ") if k in TYPES)
        assert isinstance(report[name], kinds), name
        if name in ("dataset", "tokenizer", "model", "facts", "estimates", "reading", "measured") and report[name]:
            unnamed = {k for k in report[name] if not re.search(rf"\b{k}\b", what)}
            assert not unnamed, (name, unnamed)
    for finding in report["findings"]:
        assert list(finding) == ["code", "severity", "message", "evidence", "consequence", "remedy"]


def test_its_tables_are_in_the_page() -> None:
    page = (Path(ROOT) / PATH).read_text("utf-8")
    assert all(f"| `{code}` |" in page for code in CODES) and all(f"| `{name}` |" in page for name in FIELDS)
