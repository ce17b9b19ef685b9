"""The validation component, called as kfp calls it: with real artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from kfp import dsl

from headrace.stream.heldout import HeldOut
from headrace.stream.manifest import Manifest
from headrace.validate.component import validate
from tests.artifact_of import artifact

ROOT = Path(__file__).parents[2]
MODEL = str(ROOT / "examples/tiny-gpt2")


def outputs(folder: Path) -> dict[str, Any]:
    kinds = {
        "report": dsl.HTML, "summary": dsl.Markdown, "findings": dsl.Artifact, "manifest": dsl.Artifact,
        "heldout": dsl.Dataset, "duplicates": dsl.Dataset, "metrics": dsl.Metrics,
    }  # fmt: skip
    return {name: artifact(kind, folder, name) for name, kind in kinds.items()}


def test_it_fills_its_artifacts(tmp_path: Path) -> None:
    made = outputs(tmp_path)
    verdict, reason = validate.python_func(
        dataset_name=str(ROOT / "examples/pydocs"),
        model_name_or_path=MODEL,
        arguments={"heldout_fraction": 0.1},
        **made,
    )
    assert (verdict, reason) == ("go", "")
    manifest = Manifest.from_json(json.loads(Path(made["manifest"].path).read_text()))
    assert manifest.rows == 57 and len(HeldOut.read(Path(made["heldout"].path)).texts) == 6
    assert "<html" in Path(made["report"].path).read_text() and made["metrics"].metadata["tokens"] > 400_000


def test_a_no_go_is_an_answer_with_a_report(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([None, "", " "], pa.string())}), tmp_path / "blank.parquet")
    made = outputs(tmp_path)
    verdict, reason = validate.python_func(
        dataset_name=str(tmp_path / "blank.parquet"), model_name_or_path=MODEL, arguments={},
        output_root=str(tmp_path / "run"), **made,
    )  # fmt: skip
    assert verdict == "no-go" and reason.startswith("no-go: ")
    assert "no-go" in Path(made["summary"].path).read_text().lower()
    assert json.loads((tmp_path / "run/validate/outcome.json").read_text())["code"] == 3


def test_nothing_held_out_is_an_empty_file(tmp_path: Path) -> None:
    made = outputs(tmp_path)
    validate.python_func(
        dataset_name=str(ROOT / "examples/pydocs"),
        model_name_or_path=MODEL,
        arguments={"heldout_fraction": 0.0},
        **made,
    )
    assert Path(made["heldout"].path).read_bytes() == b"" and made["heldout"].metadata == {"digest": ""}
