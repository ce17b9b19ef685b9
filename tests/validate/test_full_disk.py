"""No room on a disk is told in a line, and nothing of an earlier validation is left to be taken for a later one's."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.validate import step
from tests.validate.conftest import MODEL, texts

Validate = Callable[..., Any]
FILES = (step.REPORT, step.REPORT_MD, step.REPORT_HTML, step.MANIFEST, step.HELDOUT)


def with_room(size: int, *argv: str) -> subprocess.CompletedProcess[str]:
    """A validation of which no file may become larger than so many bytes."""
    return subprocess.run(
        [sys.executable, "-m", "headrace.validate", "--model_name_or_path", MODEL, *argv], capture_output=True,
        text=True, timeout=120, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )  # fmt: skip


def test_a_cache_without_room_is_told_of_once(dataset: Any, tmp_path: Path) -> None:
    folder = dataset(*(texts(2, 2 * i) for i in range(200)))
    cache = tmp_path / "cache"
    # The page alone is larger than the cache; without it there is room for all results.
    said = with_room(
        12_000, "--dataset_name", folder, "--manifest_cache", str(cache), "--output_dir", str(tmp_path / "out")
    )
    assert said.stderr.count("footers are not kept: ") == 1 and "Traceback" not in said.stderr, said.stderr


def test_an_output_without_room_is_a_line_and_exit_1(dataset: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = with_room(3_000, "--dataset_name", dataset(texts(50)), "--output_dir", str(out))
    assert said.returncode == 1 and "headrace: error: cannot write" in said.stderr, said.stderr
    assert "File too large" in said.stderr and "Traceback" not in said.stderr, said.stderr
    assert json.loads((out / "outcome.json").read_text())["code"] == 1 and not (out / "report.json").exists()


def test_no_room_even_for_the_outcome(dataset: Any, tmp_path: Path) -> None:
    said = with_room(10, "--dataset_name", dataset(texts(50)), "--output_dir", str(tmp_path / "out"))
    assert said.returncode == 1 and "Traceback" not in said.stderr, said.stderr
    assert said.stderr.count("headrace: error: cannot write") == 1
    assert f"cannot leave outcome.json in {tmp_path / 'out'}" in said.stderr


@pytest.mark.parametrize("why", ["data", "tokenizer"])
def test_a_run_that_fails_leaves_nothing_of_the_run_before(why: str, validate: Validate, dataset: Any) -> None:
    folder = dataset(texts(50))
    first = validate(folder, "--heldout_fraction", "0.1")
    assert first.code == 0 and all((first.folder / name).is_file() for name in FILES)
    flags = ("--tokenizer", "/nowhere") if why == "tokenizer" else ()
    if why == "data":
        next(Path(folder).iterdir()).unlink()
    second = validate(folder, *flags)
    assert second.code == 2 and not any((second.folder / name).exists() for name in FILES)
    assert json.loads((second.folder / "outcome.json").read_text())["code"] == 2


def test_flags_that_are_wrong_take_nothing_away(validate: Validate, dataset: Any) -> None:
    folder = dataset(texts(50))
    assert validate(folder).code == 0
    for wrong in (("--lanes", "0"), ("--validate_thresholds", '{"x": 1}')):
        again = validate(folder, *wrong)
        assert again.code == 2 and all((again.folder / name).is_file() for name in FILES)


def test_what_is_read_from_the_same_folder_stays(validate: Validate, dataset: Any) -> None:
    folder = dataset(texts(50))
    first = validate(folder, "--dedup", "dataset")
    names = {"manifest": step.MANIFEST, "heldout": step.HELDOUT, "duplicates": step.DUPLICATES}
    flags = [word for flag, name in names.items() for word in (f"--{flag}", str(first.folder / name))]
    again = validate(folder, "--dedup", "dataset", *flags)
    assert first.code == again.code == 0, again.err
    assert again.report["heldout"] == first.report["heldout"] and again.report["plan"] == first.report["plan"]
