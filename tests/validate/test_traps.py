"""Each damaged or deceptive dataset gets the verdict it deserves, none a traceback; clean ones raise no alarm."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.validate.catalogue import CODES
from tests.validate import clean, traps_files, traps_lines, traps_text  # noqa: F401 - they register their cases
from tests.validate.conftest import Result
from tests.validate.traps import CLEAN, TRAPS, Case
from tests.validate.traps_text import PERSONAL, SECRETS

Validate = Callable[..., Result]


def run(case: Case, validate: Validate, tmp_path: Path) -> Result:
    """The result of the real command on what the case writes."""
    folder = tmp_path / "data"
    folder.mkdir()
    named = dict(case.make(folder) or {})
    name = named.pop("dataset_name", str(folder))
    flags = [word for key, value in named.items() for word in (f"--{key}", str(value))]
    return validate(name, *case.flags, *flags, model=case.model)


@pytest.mark.parametrize("case", TRAPS, ids=lambda c: c.name)
def test_a_trap_gets_the_verdict_it_deserves(case: Case, validate: Validate, tmp_path: Path) -> None:
    result = run(case, validate, tmp_path)
    said = result.err + str(result.report and result.report["findings"])
    assert "Traceback" not in result.err and result.code == case.code, said
    if not case.verdict:
        assert result.report is None and result.err.count("headrace: error: ") == 1
    else:
        assert result.report is not None, result.err
        codes = result.codes - ({"no-rows"} - case.codes)
        assert result.report["verdict"] == case.verdict and codes == case.codes, said
        assert case.findings <= {f["code"] for f in result.report["findings"]}, said
        for finding in result.report["findings"]:
            assert finding["severity"] in CODES[finding["code"]].severity
    assert case.said in said, said


@pytest.mark.parametrize("case", CLEAN, ids=lambda c: c.name)
def test_a_clean_dataset_raises_no_alarm(case: Case, validate: Validate, tmp_path: Path) -> None:
    result = run(case, validate, tmp_path)
    assert result.code == 0 and result.report is not None, result.err
    assert result.report["verdict"] == "go" and not result.codes
    alarms = {"damaged-text", "duplicate-rows", "unusable-rows", "overlap", "secrets", "column-drift", "text-drift"}
    found = {f["code"] for f in result.report["findings"]}
    assert not found & alarms, result.report["findings"]


def test_there_are_enough_of_both() -> None:
    names = [c.name for c in (*TRAPS, *CLEAN)]
    assert len(TRAPS) >= 40 and len(CLEAN) >= 8 and len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["personal_data", "keys_and_tokens"])
def test_what_is_private_is_counted_and_never_shown(name: str, validate: Validate, tmp_path: Path) -> None:
    case = next(c for c in TRAPS if c.name == name)
    result = run(case, validate, tmp_path)
    code = "personal-data" if name == "personal_data" else "secrets"
    evidence = result.finding(code)["evidence"]
    kinds = {
        "personal_data": {"email": 16, "phone": 32, "ip-address": 16, "payment-card": 16, "iban": 16},
        "keys_and_tokens": {
            "aws-key": 14, "github-token": 14, "huggingface-token": 13, "google-key": 13, "private-key": 13, "jwt": 13,
        },
    }[name]  # fmt: skip
    assert kinds.items() <= evidence["matches"].items()
    assert all(re.fullmatch(r"part-000\.parquet, row group \d, row \d+", p) for p in evidence["examples"])
    files = [p.read_text("utf-8", "replace") for p in result.folder.glob("report.*")]
    for text in (*files, result.out, result.err):
        assert not any(word in text for word in [*SECRETS, *(w for p in PERSONAL for w in p.split() if len(w) > 8)])
