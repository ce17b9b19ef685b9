"""`headrace compile`: what the package says, read back through kfp's own protobuf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from headrace.images import image, tag
from headrace_pipelines.__main__ import main

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "examples" / "quickstart.yaml"


def compiled(path: Path, *flags: str) -> Any:
    """The package's specification; its file must hold one document that kfp's protobuf takes whole."""
    assert main(["compile", "-o", str(path), *flags]) == 0
    (document,) = yaml.safe_load_all(path.read_text("utf-8"))
    return json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return compiled(tmp_path_factory.mktemp("compiled") / "pipeline.yaml")


def test_parameters_are_typed_and_described(spec: Any) -> None:
    kinds = pipeline_spec_pb2.ParameterType.ParameterTypeEnum
    parameters = spec.root.input_definitions.parameters
    assert {name: kinds.Name(p.parameter_type) for name, p in parameters.items()} == {
        "dataset_name": "STRING", "model_name_or_path": "STRING", "dataset_config_name": "STRING",
        "dataset_revision": "STRING", "arguments": "STRUCT", "store": "STRING", "publish": "STRING",
        "output_root": "STRING",
    }  # fmt: skip
    assert all(p.description for p in parameters.values())
    assert sorted(name for name, p in parameters.items() if not p.is_optional) == ["dataset_name", "model_name_or_path"]


def test_a_no_go_leads_to_a_failing_task_and_anything_else_to_training(spec: Any) -> None:
    (branches,) = (t for name, t in spec.root.dag.tasks.items() if name != "validate")
    both = spec.components[branches.component_ref.name].dag.tasks
    conditions = {
        frozenset(spec.components[t.component_ref.name].dag.tasks): t.trigger_policy.condition for t in both.values()
    }
    no_go = "inputs.parameter_values['pipelinechannel--validate-verdict'] == 'no-go'"
    assert conditions == {frozenset({"refuse"}): no_go, frozenset({"train", "evaluate"}): f"!({no_go})"}


def test_artifacts_pass_from_step_to_step(spec: Any) -> None:
    assert set(spec.components["comp-validate"].output_definitions.parameters) == {"verdict", "reason"}
    made = {
        n: a.artifact_type.schema_title
        for n, a in spec.components["comp-validate"].output_definitions.artifacts.items()
    }
    assert made == {
        "report": "system.HTML", "summary": "system.Markdown", "findings": "system.Artifact",
        "manifest": "system.Artifact", "heldout": "system.Dataset", "duplicates": "system.Dataset",
        "metrics": "system.Metrics",
    }  # fmt: skip
    model = spec.components["comp-evaluate"].input_definitions.artifacts["model"]
    assert model.artifact_type.schema_title == "system.Model"
    assert set(spec.components["comp-evaluate"].output_definitions.parameters) == {"published"}


def test_each_task_runs_in_the_image_of_its_room(spec: Any) -> None:
    executors = json_format.MessageToDict(spec.deployment_spec)["executors"]
    images = {name: e["container"]["image"] for name, e in executors.items()}
    room = {"exec-validate": "validate", "exec-refuse": "validate", "exec-train": "train", "exec-evaluate": "evaluate"}
    assert images == {name: image(r) for name, r in room.items()}
    told = [{v["name"]: v["value"] for v in e["container"]["env"]} for e in executors.values()]
    assert told == [{"HEADRACE_EXPECTED_IMAGE": tag()}] * len(executors)
    assert not any("pip install" in " ".join(e["container"]["command"]) for e in executors.values())


@pytest.mark.parametrize("target", ["kfp", "vertex"])
def test_flags_become_defaults(target: str, tmp_path: Path) -> None:
    found = compiled(
        tmp_path / "new" / "p.yaml", "--target", target, "--config", str(QUICKSTART), "--max_steps", "7",
        "--store", "gs://bucket/run",
    )  # fmt: skip
    defaults = {n: p.default_value for n, p in found.root.input_definitions.parameters.items()}
    assert defaults["dataset_name"].string_value == "examples/pydocs"
    assert defaults["store"].string_value == "gs://bucket/run"
    arguments = json_format.MessageToDict(defaults["arguments"])
    assert arguments["max_steps"] == 7 and arguments["init_from_config"] is True


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "-o FILE is missing"),
        (["-o", "p.txt"], "no name of a package"),
        (["-o", "p.yaml", "--target", "elsewhere"], "invalid choice: 'elsewhere'"),
        (["-o", "p.yaml", "--max_stepz", "3"], "(nearest: max_steps"),
        (["-o", "p.yaml", "--max_steps", "many"], "--max_steps wants a whole number"),
        (["-o", "p.yaml", "--hub_token", "hf_x"], "--hub_token would lie"),
        (["-o", "/proc/none/p.yaml"], "/proc/none"),
    ],
)
def test_mistakes(
    flags: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compile", *flags]) == 2
    said = capsys.readouterr().err
    assert said.startswith("headrace: error: ") and says in said
    assert list(tmp_path.iterdir()) == []
