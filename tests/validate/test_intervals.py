"""Intervals as a user gets to see them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.validate.conftest import Result
from tests.validate.traps import prose, write


@pytest.mark.parametrize("rows", [1_000, 10], ids=["one-row-group", "many-row-groups"])
def test_a_sample_has_intervals_however_it_is_stored(
    rows: int, tmp_path: Path, validate: Callable[..., Result]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder, 0, prose(1_000), rows=rows)
    whole = validate(str(folder), "--heldout_fraction", "0", output=tmp_path / "whole").report
    result = validate(str(folder), "--heldout_fraction", "0", "--validate_rows", "200")
    assert whole is not None and result.report is not None
    estimates, exact = result.report["estimates"], whole["estimates"]
    for name in ("tokens", "tokens_per_document", "tokens_per_byte"):
        low, high = estimates[f"{name}_interval"]
        assert low < estimates[name] < high and low - (high - low) < exact[name] < high + (high - low)
        assert exact[f"{name}_interval"] == [exact[name], exact[name]]
    for text in (result.out, (result.folder / "report.html").read_text("utf-8")):
        assert text.count("95 % interval") == 3
