"""The example pipeline of each room: it compiles, and runs with kfp's own runner on what examples/ ships.

Each example begins where the one before ended, with nothing between them but the URIs of artifacts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.artifacts.checkpoint import CheckpointRef, read_commit
from headrace.artifacts.files import read_json

ROOT = Path(__file__).parents[2]
EXAMPLES = {"validate": "look_before_training", "train": "train_what_was_validated", "evaluate": "score_and_publish"}
RUN = """
import importlib, json, sys
from kfp import local
module, name, root, values = sys.argv[1:]
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=root)
getattr(importlib.import_module(module), name)(**json.loads(values))
"""
COMPILE = """
import importlib, sys
from kfp.compiler import Compiler
module, name, path = sys.argv[1:]
Compiler().compile(getattr(importlib.import_module(module), name), path)
"""
DATA = {"dataset_name": str(ROOT / "examples" / "pydocs"), "dataset_config_name": ""}
MODEL = {"model_name_or_path": str(ROOT / "examples" / "tiny-gpt2")}
FLAGS: dict[str, Any] = {"heldout_fraction": 0.1, "max_eval_samples": 2, "use_cpu": True, "torch_threads": 1}
TRAINING = {"max_steps": 2, "save_steps": 2, "per_device_train_batch_size": 2, "init_from_config": True}


def python(program: str, room: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program on a room's example in a process of its own: kfp.local keeps its settings in globals."""
    env = {
        **os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled",
        "PYTHONPATH": f"{ROOT / 'components'}:{ROOT / 'pipelines'}",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", program, f"headrace.{room}.example_pipelines", EXAMPLES[room], *words],
        capture_output=True, text=True, env=env, timeout=200,
    )  # fmt: skip


def ran(room: str, root: Path, **values: Any) -> Path:
    """Run a room's example; the folder of its task's artifacts."""
    done = python(RUN, room, str(root), json.dumps(values))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (folder,) = root.glob(f"headrace-{room}-example-*/{room}")
    return folder


@pytest.mark.parametrize("room", EXAMPLES)
def test_it_compiles_with_every_parameter_described(room: str, tmp_path: Path) -> None:
    package = tmp_path / "example.yaml"
    done = python(COMPILE, room, str(package))
    assert done.returncode == 0, done.stderr
    (spec,) = yaml.safe_load_all(package.read_text("utf-8"))
    assert room in spec["root"]["dag"]["tasks"]
    assert all(port["description"] for port in spec["root"]["inputDefinitions"]["parameters"].values())


def test_each_goes_on_from_the_artifacts_of_the_one_before(tmp_path: Path) -> None:
    looked = ran("validate", tmp_path, **DATA, **MODEL, arguments=FLAGS)
    assert read_json(looked / "findings")["verdict"] == "go"

    found = {name: str(looked / name) for name in ("manifest", "findings", "heldout", "duplicates")}
    trained = ran("train", tmp_path, **DATA, **MODEL, **found, arguments=FLAGS | TRAINING) / "model"
    assert CheckpointRef.read(trained).commit_hash == read_commit(trained).hash
    assert read_json(trained / "headrace.json")["steps"] == 2

    scored = ran(
        "evaluate", tmp_path, **DATA, model=str(trained), heldout=found["heldout"],
        publish=str(tmp_path / "shelf"), arguments=FLAGS,
    )  # fmt: skip
    metrics = read_json(scored / "results" / "metrics.json")
    assert metrics["documents"] == 2 and metrics["heldout_made"] is False and 0 < metrics["eval_loss"] < 12
    (version,) = (path for path in (tmp_path / "shelf").iterdir() if path.is_dir())
    assert read_commit(version).hash == read_json(tmp_path / "shelf" / "current.json")["commit_hash"]


def test_a_no_go_is_an_answer_with_a_report(tmp_path: Path) -> None:
    (tmp_path / "blank.jsonl").write_text('{"text": ""}\n' * 20)
    values = {**DATA, **MODEL, "dataset_name": str(tmp_path / "blank.jsonl")}
    looked = ran("validate", tmp_path / "root", **values)
    assert read_json(looked / "findings")["verdict"] == "no-go" and "no-go" in (looked / "summary").read_text()
