"""What validation leaves behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.stream.heldout import HeldOut
from headrace.stream.manifest import Manifest
from tests.validate.conftest import CORPUS, Result, texts

Validate = Callable[..., Result]
Dataset = Callable[..., str]


def test_manifest_and_slice_are_what_train_reads(validate: Validate) -> None:
    result = validate(CORPUS, "--heldout_fraction", "0.1")
    manifest = Manifest.from_json(json.loads((result.folder / "manifest.json").read_text()))
    slice_ = HeldOut.read(result.folder / "heldout.parquet")
    assert result.report is not None
    assert manifest.hash == result.report["dataset"]["manifest_hash"]
    assert slice_.digest == result.report["heldout"]["digest"] == result.report["plan"]["heldout"]
    outcome = json.loads((result.folder / "outcome.json").read_text())
    assert outcome["code"] == 0 and outcome["verdict"] == "go" and outcome["manifest_hash"] == manifest.hash
    again = validate(
        CORPUS, "--manifest", str(result.folder / "manifest.json"), "--heldout_fraction", "0.1",
        output=result.folder.parent / "again",
    )  # fmt: skip
    assert again.code == 0 and again.report is not None and again.report["plan"] == result.report["plan"]


def test_a_no_go_leaves_code_3(validate: Validate, dataset: Dataset) -> None:
    result = validate(dataset(["", None] * 20))
    outcome = json.loads((result.folder / "outcome.json").read_text())
    assert result.code == outcome["code"] == 3 and outcome["error"].startswith("no-go: ") and outcome["remedy"]


def test_no_slice_leaves_no_old_one(validate: Validate, dataset: Dataset) -> None:
    name = dataset(texts(60))
    assert (validate(name).folder / "heldout.parquet").is_file()
    result = validate(name, "--heldout_fraction", "0")
    assert not (result.folder / "heldout.parquet").exists() and result.report is not None
    assert result.report["heldout"] is None and result.finding("no-held-out-slice")


def test_the_numbers_are_those_of_the_rows(validate: Validate, dataset: Dataset) -> None:
    rows = texts(50)
    result = validate(dataset(rows[:25], rows[25:]), "--heldout_fraction", "0")
    assert result.report is not None
    estimates, facts = result.report["estimates"], result.report["facts"]
    assert facts["looked_at"] == {
        "complete": True, "rows": 50, "bytes": sum(len(r.encode()) for r in rows), "row_groups": 6,
    }  # fmt: skip
    assert estimates["tokens"] == facts["tokens"] + 50 == estimates["train_tokens"]
    assert estimates["blocks"] == estimates["tokens"] // 256
    assert estimates["tokens_per_byte"] == pytest.approx(facts["tokens"] / facts["looked_at"]["bytes"])
    assert sum(result.report["histograms"]["document_tokens"]["counts"]) == 50
    assert sum(result.report["histograms"]["tokens_per_byte"]["counts"]) == 50


def test_a_sample_says_so_and_comes_near(validate: Validate, dataset: Dataset) -> None:
    files = [[t * (1 + i % 7) for i, t in enumerate(texts(200, 1000 * f))] for f in range(4)]
    whole = validate(dataset(*files, rows=20), "--heldout_fraction", "0")
    part = validate(str(whole.folder.parent / "data"), "--heldout_fraction", "0", "--validate_rows", "200")
    assert whole.report is not None and part.report is not None
    assert part.finding("sampled")["severity"] == "info" and part.report["facts"]["looked_at"]["rows"] == 200
    low, high = part.report["estimates"]["tokens_interval"]
    exact = whole.report["estimates"]["tokens"]
    assert low < high and low - (high - low) < exact < high + (high - low)
    assert part.report["estimates"]["documents"] == pytest.approx(800, abs=1)
    assert "about" in part.out and "every row" in whole.out


def test_the_byte_budget_is_kept(validate: Validate, dataset: Dataset) -> None:
    result = validate(dataset(*(texts(100, 100 * i) for i in range(5))), "--validate_bytes", "2000")
    assert result.report is not None and 0 < result.report["facts"]["looked_at"]["bytes"] <= 2400


def test_the_page_holds_nothing_foreign_and_escapes_what_it_shows(validate: Validate, dataset: Dataset) -> None:
    result = validate(dataset(texts(20), column="<script>alert(1)</script>"))
    html = (result.folder / "report.html").read_text("utf-8")
    assert "<script" not in html and "&lt;script&gt;alert(1)" in html
    assert not re.search(r"https?:|\bsrc=|url\((?!#)|@import", html)
    assert set(re.findall(r"href=\"(.)", html)) <= {"#"}
    markdown = (result.folder / "report.md").read_text("utf-8")
    assert "<script>" not in markdown.replace("\\<", "")


def test_progress_is_left_for_watchers(validate: Validate) -> None:
    result = validate(CORPUS, "--heldout_fraction", "0.1")
    progress = json.loads((result.folder / "progress.json").read_text())
    assert progress["phase"] == "documents" and progress["done"] == progress["total"]


def test_the_same_twice(validate: Validate, tmp_path: Path) -> None:
    first = validate(CORPUS, "--heldout_fraction", "0.1", output=tmp_path / "a")
    second = validate(CORPUS, "--heldout_fraction", "0.1", output=tmp_path / "b")
    for name in ("manifest.json", "heldout.parquet"):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes(), name
    # How fast this machine was is the one thing that differs.
    for result in (first, second):
        assert result.report is not None and result.report.pop("measured")
        result.report["findings"] = [f for f in result.report["findings"] if f["code"] != "stream-rate"]
    assert first.report == second.report
