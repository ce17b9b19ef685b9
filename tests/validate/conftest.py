"""A dataset from a few texts, and the real command on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.validate.__main__ import main

ROOT = Path(__file__).parents[2]
MODEL = str(ROOT / "examples/tiny-gpt2")
CORPUS = str(ROOT / "examples/pydocs")


@dataclass
class Result:
    """How one command ended. report: None where it wrote none."""

    code: int
    out: str
    err: str
    folder: Path
    report: dict[str, Any] | None

    def finding(self, code: str) -> dict[str, Any]:
        assert self.report is not None, self.err
        found = {f["code"]: f for f in self.report["findings"]}
        assert code in found, sorted(found)
        return dict(found[code])

    @property
    def codes(self) -> set[str]:
        """Codes of the findings that change the verdict."""
        assert self.report is not None, self.err
        return {f["code"] for f in self.report["findings"] if f["severity"] != "info"}


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., str]:
    """Writes lists of texts, one a file, as a dataset; its folder."""

    def write(*files: Sequence[Any], column: str = "text", kind: pa.DataType | None = None, rows: int = 10) -> str:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        for texts in files:
            array = pa.array(list(texts), kind or pa.string())
            path = folder / f"part-{len(list(folder.iterdir())):03}.parquet"
            pq.write_table(pa.table({column: array}), path, row_group_size=rows)
        return str(folder)

    return write


@pytest.fixture
def validate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs `python -m headrace.validate` on a dataset, in this process."""

    def run(name: str, *flags: str, model: bool = True, output: Path | None = None) -> Result:
        folder = output or tmp_path / "out"
        named = ["--model_name_or_path", MODEL] if model else []
        code = main(["--dataset_name", name, *named, "--output_dir", str(folder), *flags])
        captured = capsys.readouterr()
        path = folder / "report.json"
        report = json.loads(path.read_text(), parse_constant=pytest.fail) if path.is_file() else None
        return Result(code, captured.out, captured.err, folder, report)

    return run


def texts(n: int, start: int = 0) -> list[str]:
    """Clean documents, all different."""
    return [
        f"The wheel turns at the mill race, number {i}. Water goes on to the next bucket."
        for i in range(start, start + n)
    ]
