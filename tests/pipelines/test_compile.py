"""`headrace compile`: what the package says, read back through kfp's own protobuf."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from headrace.errors import InputError
from headrace.images import image, tag
from headrace_pipelines.__main__ import main
from headrace_pipelines.compiling import check_parameters

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "examples" / "quickstart.yaml"


def compiled(path: Path, *flags: str) -> Any:
    """The package's specification, as kfp's protobuf takes it whole."""
    assert main(["compile", "-o", str(path), *flags]) == 0
    document, *_ = yaml.safe_load_all(path.read_text("utf-8"))
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
        "gate": "STRING", "gate_threshold": "LIST", "wandb_project": "STRING", "num_nodes": "NUMBER_INTEGER",
        "nproc_per_node": "NUMBER_INTEGER", "output_root": "STRING",
    }  # fmt: skip
    assert all(p.description for p in parameters.values())
    assert sorted(name for name, p in parameters.items() if not p.is_optional) == ["dataset_name", "model_name_or_path"]


def tree(spec: Any, dag: Any) -> dict[str, Any]:
    """Tasks by their shown names: the names they wait for, the condition they need, and the tasks below a group."""
    shown = {name: task.task_info.name for name, task in dag.tasks.items()}
    return {
        shown[name]: (
            {shown[other] for other in task.dependent_tasks},
            task.trigger_policy.condition,
            tree(spec, spec.components[task.component_ref.name].dag),
        )
        for name, task in dag.tasks.items()
    }


def test_what_follows_what(spec: Any) -> None:
    nothing: set[str] = set()
    no_go = "inputs.parameter_values['pipelinechannel--validate-verdict'] == 'no-go'"
    refused = "inputs.parameter_values['pipelinechannel--evaluate-gate'] == 'refused'"
    judged: dict[str, Any] = {
        "refused": (nothing, refused, {"refuse-2": (nothing, "", {})}),
        "passed": (nothing, f"!({refused})", {"promote": (nothing, "", {})}),
    }
    decided = {
        "no-go": (nothing, no_go, {"refuse": (nothing, "", {})}),
        "go": (
            nothing,
            f"!({no_go})",
            {
                "train": (nothing, "", {}),
                "evaluate": ({"train"}, "", {}),
                "condition-branches-5": ({"evaluate"}, "", judged),
            },
        ),
    }
    steps = {
        "pin": (nothing, "", {}),
        "validate": ({"pin"}, "", {}),
        "condition-branches-2": ({"validate"}, "", decided),
    }
    assert tree(spec, spec.root.dag) == {"steps": (nothing, "", steps), "record": ({"steps"}, "", {})}


def tasks(spec: Any) -> dict[str, Any]:
    """Every task that runs a container or an importer, by its name."""
    found: dict[str, Any] = {}
    for dag in [spec.root.dag, *(c.dag for c in spec.components.values())]:
        found |= {n: t for n, t in dag.tasks.items() if spec.components[t.component_ref.name].executor_label}
    return found


def test_the_exit_handler_runs_whatever_happened(spec: Any) -> None:
    record = spec.root.dag.tasks["record"]
    assert record.trigger_policy.strategy == record.trigger_policy.ALL_UPSTREAM_TASKS_COMPLETED
    assert record.inputs.parameters["status"].task_final_status.producer_task == "exit-handler-1"


def test_only_validation_is_answered_from_the_cache(spec: Any) -> None:
    cached = {name for name, task in tasks(spec).items() if task.caching_options.enable_cache}
    assert cached == {"validate"}
    assert tasks(spec)["validate"].inputs.parameters["source"].task_output_parameter.producer_task == "pin"


def test_what_is_tried_again(spec: Any) -> None:
    retries = {name: task.retry_policy.max_retry_count for name, task in tasks(spec).items()}
    assert retries == {
        "pin": 2, "validate": 2, "train": 3, "evaluate": 2, "record": 2, "refuse": 0, "refuse-2": 0, "importer": 0,
    }  # fmt: skip


def test_artifacts_pass_from_step_to_step(spec: Any) -> None:
    assert set(spec.components["comp-validate"].output_definitions.parameters) == {"verdict", "reason"}
    made = {
        step: {
            n: a.artifact_type.schema_title
            for n, a in spec.components[f"comp-{step}"].output_definitions.artifacts.items()
        }
        for step in ("validate", "train", "evaluate", "record", "importer")
    }
    assert made == {
        "validate": {
            "report": "system.HTML", "summary": "system.Markdown", "findings": "system.Artifact",
            "manifest": "system.Artifact", "heldout": "system.Dataset", "duplicates": "system.Dataset",
            "metrics": "system.Metrics",
        },
        "train": {"model": "system.Model", "metrics": "system.Metrics"},
        "evaluate": {"metrics": "system.Metrics", "report": "system.HTML", "results": "system.Artifact"},
        "record": {"outcome": "system.Artifact", "summary": "system.Markdown"},
        "importer": {"artifact": "system.Model"},
    }  # fmt: skip
    model = spec.components["comp-evaluate"].input_definitions.artifacts["model"]
    assert model.artifact_type.schema_title == "system.Model"
    assert set(spec.components["comp-evaluate"].output_definitions.parameters) == {"gate", "reason", "published"}


def test_each_task_runs_in_the_image_of_its_room(spec: Any) -> None:
    executors = json_format.MessageToDict(spec.deployment_spec)["executors"]
    containers = {name.removeprefix("exec-"): e["container"] for name, e in executors.items() if "container" in e}
    room = {"train": "train", "evaluate": "evaluate"}
    assert {n: c["image"] for n, c in containers.items()} == {n: image(room.get(n, "validate")) for n in containers}
    assert set(containers) == {"pin", "validate", "train", "evaluate", "refuse", "refuse-2", "record"}
    for name, container in containers.items():
        known = {"HEADRACE_EXPECTED_IMAGE": tag()}
        if name in ("validate", "train", "evaluate"):
            known["HEADRACE_IMAGE"] = container["image"]
        assert {v["name"]: v["value"] for v in container["env"]} == known
        assert "pip install" not in " ".join(container["command"])


def test_flags_of_a_container_are_the_component_s_own(spec: Any) -> None:
    """Every input that a task is given is one that its function takes, and each that it needs is given."""
    from headrace.evaluate.component import evaluate
    from headrace.train.component import train
    from headrace.validate.component import pin, validate
    from headrace_pipelines.tasks import record, refuse

    functions = {"pin": pin, "validate": validate, "train": train, "evaluate": evaluate, "record": record}
    functions |= {"refuse": refuse, "refuse-2": refuse}
    for name, component in functions.items():
        takes = {
            n: p for n, p in inspect.signature(component.python_func).parameters.items()
            if not getattr(p.annotation, "__metadata__", None) or n in (component.component_spec.inputs or {})
        }  # fmt: skip
        given = {*tasks(spec)[name].inputs.parameters, *tasks(spec)[name].inputs.artifacts}
        assert given <= set(takes), name
        assert {n for n, p in takes.items() if p.default is p.empty} <= given, name
        (command,) = [
            " ".join(e["container"]["command"])
            for n, e in json_format.MessageToDict(spec.deployment_spec)["executors"].items() if n == f"exec-{name}"
        ]  # fmt: skip
        assert f"def {component.python_func.__name__}(" in command


@pytest.mark.parametrize("seed", ["1", "2"])
@pytest.mark.parametrize("target", ["kfp", "vertex"])
def test_the_same_input_gives_the_same_bytes(target: str, seed: str, tmp_path: Path) -> None:
    flags = ["--target", target, "--config", str(QUICKSTART), "--cluster", str(ROOT / "examples" / "cluster.yaml")]
    assert main(["compile", "-o", str(tmp_path / "here.yaml"), *flags]) == 0
    words = [sys.executable, "-m", "headrace_pipelines", "compile", "-o", str(tmp_path / "there.yaml"), *flags]
    subprocess.run(words, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True)
    assert (tmp_path / "here.yaml").read_bytes() == (tmp_path / "there.yaml").read_bytes()


def test_check_says_whether_a_run_could_be_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, flags = tmp_path / "p.yaml", ["--config", str(QUICKSTART)]
    check = ["compile", "--check", *flags]
    assert main(check) == 0 and list(tmp_path.iterdir()) == []
    assert main([*check, "-o", str(path)]) == 1 and "is not there" in capsys.readouterr().err
    assert main(["compile", "-o", str(path), *flags]) == 0
    before = path.read_bytes()
    assert main([*check, "-o", str(path)]) == 0 and "is up to date" in capsys.readouterr().out
    assert main([*check, "-o", str(path), "--max_steps", "9"]) == 1
    assert "is not what these flags compile to" in capsys.readouterr().err and path.read_bytes() == before
    assert main(["compile", "--check"]) == 2 and "--dataset_name is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"dataset_nam": "x"}, "no parameter dataset_nam"),
        ({"arguments": "x"}, "arguments is 'x'; the pipeline takes STRUCT"),
        ({"gate_threshold": "perplexity < 3"}, "takes LIST"),
        ({"dataset_name": True}, "takes STRING"),
        ({"dataset_name": "x"}, "model_name_or_path is missing"),
    ],
)
def test_parameters_are_held_against_the_package(given: dict[str, Any], says: str, tmp_path: Path) -> None:
    compiled(tmp_path / "p.yaml")
    with pytest.raises(InputError, match=says):
        check_parameters(tmp_path / "p.yaml", given)


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
        (["-o", "p.json"], "no name of a package"),
        (["-o", "p.yaml", "--target", "vertex", "--num_nodes", "2"], "Vertex AI has no TrainJobs"),
        (["-o", "p.yaml", "--cluster", "none.yaml"], "cannot read none.yaml"),
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
