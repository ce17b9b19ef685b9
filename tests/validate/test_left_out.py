"""A report says which data files of a folder are not read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.validate.conftest import texts


def test_files_beside_the_data_are_noted(validate: Callable[..., Any], dataset: Callable[..., str]) -> None:
    folder = dataset(*(texts(4, 4 * i) for i in range(31)))
    for i in range(30):
        (Path(folder) / f"more-{i:02}.jsonl").write_text('{"text": "A line that nobody reads."}\n')
    result = validate(folder)
    found = result.finding("files-left-out")
    assert result.code == 0 and found["severity"] == "info" and found["evidence"]["files"] == 30
    assert found["message"].startswith(
        "30 files beside the data are not read: more-00.jsonl (it is of another format), "
    )
    assert len(found["evidence"]["examples"]) == 20 and "nobody reads" not in str(result.report)
    manifest = ("--manifest", str(result.folder / "manifest.json"))
    assert "files-left-out" not in str(validate(folder, *manifest, output=result.folder / "again").report)
