"""The evaluation component, called as kfp calls it: with real artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from headrace.artifacts.checkpoint import CheckpointRef, fetch, read_commit
from headrace.artifacts.files import read_json
from headrace.errors import DamagedCheckpoint
from headrace.evaluate.component import evaluate
from tests.artifact_of import artifact


def answer(model: Path, heldout: Path, folder: Path, commit_hash: str = "", **given: Any) -> tuple[Any, dict[str, Any]]:
    """What the component returns, and the artifacts; the model is handed over as training does: by its reference."""
    (folder / "model").mkdir(parents=True)
    CheckpointRef(uri=str(model), commit_hash=commit_hash or read_commit(model).hash, step=99).write(folder / "model")
    kinds = {"metrics": dsl.Metrics, "report": dsl.HTML, "results": dsl.Artifact}
    made = {name: artifact(kind, folder, name) for name, kind in kinds.items()}
    returned = evaluate.python_func(
        **{
            "dataset_name": "", "arguments": {"eval_batch_size": 8.0, "init_from_config": True, "use_cpu": True},
            "model": artifact(dsl.Model, folder, "model"), "heldout": dsl.Dataset(uri=str(heldout)), **made, **given,
        }
    )  # fmt: skip
    return returned, made


def call(model: Path, heldout: Path, folder: Path, commit_hash: str = "", **given: str) -> tuple[str, dict[str, Any]]:
    """What was published, and the artifacts, of a model that the gate lets pass."""
    (gate, reason, published), made = answer(model, heldout, folder, commit_hash, **given)
    assert (gate, reason) == ("passed", "")
    return published, made


def test_it_fills_its_artifacts_and_publishes(model: Path, heldout: Path, tmp_path: Path) -> None:
    published, made = call(model, heldout, tmp_path / "kfp", publish=str(tmp_path / "shelf"), output_root=str(tmp_path))
    assert Path(published).parent == tmp_path / "shelf" and (Path(published) / "model.safetensors").is_file()
    results = Path(made["results"].path)
    assert sorted(p.name for p in results.iterdir()) == ["README.md", "lineage.json", "metrics.json", "scores.parquet"]
    metrics = read_json(results / "metrics.json")
    assert made["metrics"].metadata["eval_loss"] == metrics["eval_loss"] > 0
    assert all(isinstance(v, int | float) for v in made["metrics"].metadata.values())
    assert "<html" in Path(made["report"].path).read_text("utf-8")
    assert json.loads((tmp_path / "evaluate" / "outcome.json").read_text())["published"] == published


def test_with_no_place_to_publish_to_it_all_lies_in_an_artifact(model: Path, heldout: Path, tmp_path: Path) -> None:
    published, made = call(model, heldout, tmp_path / "kfp")
    assert published.startswith(f"{made['results'].uri}/published/step-99-")
    assert (fetch(published, tmp_path / "scratch").folder / "model.safetensors").is_file()


def test_another_model_than_the_one_meant_is_refused(model: Path, heldout: Path, tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint, match="another checkpoint"):
        call(model, heldout, tmp_path / "kfp", commit_hash="0" * 64)


def test_a_refusal_is_an_answer_with_all_its_artifacts(model: Path, heldout: Path, tmp_path: Path) -> None:
    flags: dict[str, Any] = {
        "arguments": {"use_cpu": True, "gate_threshold": ["accuracy > 1"]},
        "output_root": str(tmp_path),
    }
    (gate, reason, published), made = answer(model, heldout, tmp_path / "kfp", **flags)
    assert (gate, published) == ("refused", "") and "not as wanted: accuracy > 1" in reason
    assert read_json(Path(made["results"].path) / "metrics.json")["gate"]["outcome"] == "refused"
    assert made["metrics"].metadata["eval_loss"] > 0 and Path(made["report"].path).is_file()
    assert not list(tmp_path.rglob("published"))
