"""The training component, called as kfp calls it: with real artifacts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from headrace.artifacts.checkpoint import COMMIT, CheckpointRef, fetch
from headrace.artifacts.files import read_json
from headrace.errors import InputError
from headrace.train.component import train as component
from tests.artifact_of import artifact
from tests.train.conftest import Train, environment, sha


def call(flags: dict[str, Any], looked: dict[str, dsl.Artifact], folder: Path, **changed: Any) -> dict[str, Any]:
    made = {"model": artifact(dsl.Model, folder, "model"), "metrics": artifact(dsl.Metrics, folder, "metrics")}
    arguments = {k: v for k, v in flags.items() if k not in ("dataset_name", "model_name_or_path")}
    # As they come out of JSON: whole numbers as floats.
    arguments |= {"max_steps": 2.0, "save_steps": 2.0, **changed.pop("arguments", {})}
    component.python_func(
        dataset_name=flags["dataset_name"], model_name_or_path=flags["model_name_or_path"], arguments=arguments,
        **looked, **made, **changed,
    )  # fmt: skip
    return made


def test_without_a_place_to_keep_it_the_model_lies_in_its_artifact(
    flags: dict[str, Any], looked: dict[str, dsl.Artifact], tmp_path: Path
) -> None:
    made = call(flags, looked, tmp_path)
    folder = Path(made["model"].path)
    assert (folder / "model.safetensors").is_file() and CheckpointRef.read(folder).uri == "."
    assert read_json(folder / "validation.json") == {"verdict": "go"}
    assert made["model"].metadata["step"] == 2 and made["metrics"].metadata["train_loss"] > 0


@pytest.mark.parametrize("keep", ["output_root", "store"])
def test_kept_elsewhere_the_artifact_only_points_to_it(
    keep: str, flags: dict[str, Any], looked: dict[str, dsl.Artifact], tmp_path: Path
) -> None:
    made = call(flags, looked, tmp_path, **{keep: str(tmp_path / "kept")})
    folder = Path(made["model"].path)
    assert [p.name for p in folder.iterdir()] == ["checkpoint.json"]
    fetched = fetch(str(folder), tmp_path / "scratch")
    assert (fetched.folder / "model.safetensors").is_file() and str(fetched.folder).startswith(str(tmp_path / "kept"))


@pytest.mark.parametrize("keep", ["output_root", "store"])
def test_on_a_cluster_no_folder_of_the_pod_keeps_the_model(
    keep: str, flags: dict[str, Any], looked: dict[str, dsl.Artifact], tmp_path: Path
) -> None:
    """The parameter `pods` is what the pipeline gives on a cluster, and nowhere else."""
    mounted = {"volumes": [{"claim": "runs", "path": str(tmp_path / "mounted")}]}
    with pytest.raises(InputError, match=r"would be kept in .*own, and lost with it"):
        call(flags, looked, tmp_path, pods=mounted, **{keep: str(tmp_path / "mounted" / ".." / "kept")})
    assert not (tmp_path / "kept").exists()
    made = call(flags, looked, tmp_path, pods=mounted, **{keep: str(tmp_path / "mounted" / "kept")})
    assert made["model"].metadata["uri"].startswith(str(tmp_path / "mounted" / "kept"))


def test_each_run_of_a_schedule_has_a_store_of_its_own(
    flags: dict[str, Any], looked: dict[str, dsl.Artifact], tmp_path: Path
) -> None:
    for job in ("one", "two"):
        made = call(flags, looked, tmp_path / job, store=str(tmp_path / "kept-{job}"), job=job)
        assert made["model"].metadata["uri"] == str(tmp_path / f"kept-{job}")
    with pytest.raises(InputError, match="only a pipeline's run has"):
        call(flags, looked, tmp_path / "none", store=str(tmp_path / "kept-{job}"))


def test_a_limit_meant_for_evaluation_is_not_refused_here(
    flags: dict[str, Any], looked: dict[str, dsl.Artifact], tmp_path: Path
) -> None:
    call({**flags, "max_eval_samples": 3}, looked, tmp_path)


def test_a_mistake_is_raised(flags: dict[str, Any], looked: dict[str, dsl.Artifact], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dataset_block_size is 4096"):
        call({**flags, "dataset_block_size": 4096}, looked, tmp_path)


def test_a_retry_of_what_failed_for_good_stops_at_once(
    flags: dict[str, Any], looked: dict[str, dsl.Artifact], tmp_path: Path
) -> None:
    kept = {"store": str(tmp_path / "kept"), "job": "one"}
    with pytest.raises(InputError, match="dataset_block_size is 4096"):
        call({**flags, "dataset_block_size": 4096}, looked, tmp_path, **kept)
    with pytest.raises(InputError, match=r"an earlier attempt failed for good: .*4096"):
        call(flags, looked, tmp_path, **kept)
    call(flags, looked, tmp_path, **{**kept, "job": "two"})  # submitted anew


LAUNCHER = """
import json, subprocess, sys
# Like kfp's launcher: hands on no signal, and whatever the child's code was, its own is 1.
sys.exit(1 if subprocess.run([sys.executable, "-c", sys.argv[1], *sys.argv[2:]]).returncode else 0)
"""
WRAPPED = """
import json, sys
from pathlib import Path
from headrace.train.attendant import attend
attend(json.loads(sys.argv[1]), Path(sys.argv[2]))
"""


def test_under_a_parent_like_kfps_launcher_it_goes_on_in_place(
    train: Train, flags: dict[str, Any], tmp_path: Path
) -> None:
    long = {**flags, "max_steps": 400, "save_steps": 100}
    whole, out = tmp_path / "whole", tmp_path / "out"
    train(whole, max_steps=400, save_steps=100)
    out.mkdir()
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, WRAPPED, json.dumps(long), str(out)], env=environment(), stderr=subprocess.PIPE
    )
    hit = False
    while launcher.poll() is None:
        if not hit and (out / "checkpoint-100" / COMMIT).is_file():
            owner = json.loads((out / ".headrace.lock").read_text())
            os.kill(owner["pid"], signal.SIGUSR1)  # the training alone, as a scheduler's agent does
            hit = True
        time.sleep(0.005)
    said = launcher.communicate()[1].decode()
    assert hit and launcher.returncode == 0, said
    assert said.count("going on from") == 1
    assert sha(out / "model.safetensors") == sha(whole / "model.safetensors")
