"""A file that this account may not read is a finding; the others are looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.validate.conftest import MODEL, texts

# root reads everything, unless it gives up the right to.
AS_OTHERS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else []


@pytest.mark.parametrize(("name", "files"), [("", 3), ("*.parquet", 3), ("1.parquet", 1), ("*.jsonl", 2)])
def test_a_file_that_may_not_be_read(name: str, files: int, tmp_path: Path) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"
    folder.mkdir()
    for i in range(3 if not name.endswith("jsonl") else 2):
        if name.endswith("jsonl"):
            (folder / f"{i}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts(50, 50 * i)))
        else:
            pq.write_table(pa.table({"text": texts(50, 50 * i)}), folder / f"{i}.parquet")
    next(folder.glob("1.*")).chmod(0)
    argv = ["--dataset_name", str(folder / name), "--model_name_or_path", MODEL, "--output_dir", str(out)]
    said = subprocess.run(
        [*AS_OTHERS, sys.executable, "-m", "headrace.validate", *argv], capture_output=True, text=True, timeout=120
    )
    assert said.returncode == 3 and "Traceback" not in said.stderr, said.stderr
    report = json.loads((out / "report.json").read_text())
    found = next(f for f in report["findings"] if f["code"] == "unreadable-file")
    assert found["severity"] == "no-go" and found["evidence"]["files"] == 1 and "ermission" in found["message"]
    assert report["dataset"]["rows"] == 50 * (files - 1)


def test_a_folder_that_may_not_be_entered(tmp_path: Path) -> None:
    (tmp_path / "closed" / "data").mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    argv = ["--dataset_name", str(tmp_path / "closed" / "data"), "--model_name_or_path", MODEL]
    said = subprocess.run(
        [*AS_OTHERS, sys.executable, "-m", "headrace.validate", *argv, "--output_dir", str(tmp_path / "out")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    (tmp_path / "closed").chmod(0o700)
    assert said.returncode == 2 and "may not read " in said.stderr and "Traceback" not in said.stderr, said.stderr
