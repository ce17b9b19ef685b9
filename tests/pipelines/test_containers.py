"""`headrace run --runner docker` and `docker/build` where no Docker can help, and what containers are shown."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headrace_pipelines import containers
from headrace_pipelines.__main__ import main

ROOT = Path(__file__).parents[2]
RUN = ["run", "--runner", "docker", "--config", str(ROOT / "examples" / "quickstart.yaml")]


@pytest.mark.parametrize("where", ["nowhere", "closed"])
def test_no_daemon(where: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(tmp_path / "closed"))  # a socket that a daemon left behind
        env = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path / where}"}
        command = [sys.executable, "-m", "headrace_pipelines", *RUN, "--output_dir", str(tmp_path / "runs")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
        assert done.returncode == 2 and not (tmp_path / "runs").exists()
        assert done.stderr.startswith("headrace: error: no Docker daemon answers at unix://"), done.stderr
        assert "Traceback" not in done.stderr
        if shutil.which("docker"):
            done = build(env=env)
            assert done.returncode == 2 and "the Docker daemon does not answer" in done.stderr


def test_an_unknown_runner(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--runner", "podman"]) == 2
    assert "invalid choice: 'podman'" in capsys.readouterr().err


def build(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "docker" / "build"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)


def test_building_without_docker_or_an_unknown_step(tmp_path: Path) -> None:
    done = build(env={"PATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (2, "") and "there is no docker command" in done.stderr
    done = build("trian", env={"PATH": str(tmp_path)})
    assert done.returncode == 2 and "there is no step 'trian'" in done.stderr and "Traceback" not in done.stderr


def test_wheels_of_this_python_are_not_for_the_cuda_base(tmp_path: Path) -> None:
    done = build("--wheels", env={"PATH": str(tmp_path)})
    assert done.returncode == 2 and "--cpu" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def script(tmp_path: Path) -> ModuleType:
    """`docker/build` as a module, its note elsewhere."""
    module = ModuleType("docker_build")
    module.__file__ = str(ROOT / "docker" / "build")
    SourceFileLoader("docker_build", module.__file__).exec_module(module)
    module.NOTE = tmp_path / "images.json"  # type: ignore[attr-defined]
    return module


def test_a_digest_is_found_under_the_name_that_docker_gives_it(script: ModuleType) -> None:
    for name, listed in (
        ("docker.io/org/x:1", "org/x"), ("docker.io/library/x:1", "x"), ("h:5000/org/x:1", "h:5000/org/x"),
    ):  # fmt: skip
        assert script.digest_of(name, ["other/org/x@sha256:0", f"{listed}@sha256:1"]) == "sha256:1"
    with pytest.raises(script.Failure, match="lists no digest"):
        script.digest_of("docker.io/org/x:1", ["other/org/x@sha256:0"])


@pytest.mark.parametrize("before", ["", "[]", "{", '{"version": "1", "revision": "z", "images": {"train": {}}}'])
def test_the_note_survives_what_was_there(before: str, script: ModuleType) -> None:
    script.NOTE.write_text(before)
    script.keep("1", "a", {"validate": {"image": "v"}})
    script.keep("1", "a", {"train": {"image": "t"}})
    assert json.loads(script.NOTE.read_text()) == {
        "version": "1", "revision": "a", "images": {"validate": {"image": "v"}, "train": {"image": "t"}},
    }  # fmt: skip


def test_containers_see_what_the_parameters_name_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data", "model", "other", "kept"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "a.parquet").touch()
    parameters = {
        "dataset_name": "data/*.parquet", "model_name_or_path": f"file://{tmp_path}/model", "store": "gs://bucket/x",
        "publish": "models", "output_root": str(tmp_path / "kept"),
        "arguments": {"manifest": "", "seed": 3, "sample_prompt": ["/", "A word"], "heldout": "data/a.parquet"},
    }  # fmt: skip
    assert containers.inputs(parameters) == {tmp_path / "data", tmp_path / "model", tmp_path / "data" / "a.parquet"}
    assert containers.outputs(tmp_path / "kept", parameters) == {tmp_path / "kept", tmp_path / "models"}


@pytest.mark.parametrize("text", ["x" * 300, "~approx five", ".", "/etc", "a\0b", "data", "~"])
def test_ordinary_text_is_no_place(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    arguments = {
        "sample_prompt": [text], "dataset_filter": [text], "dataset_text_field": text, "run_id": text,
        "dataset_mixture": [{"name": "gs://bucket", "weight": 1, "config": text, "text_field": text}],
    }  # fmt: skip
    parameters = {"dataset_name": "", "dataset_config_name": text, "wandb_project": text, "arguments": arguments}
    assert containers.inputs(parameters) == set()


def test_what_is_no_path_where_one_belongs_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("x" * 300, "~nobody-of-that-name/x", "a\0b", "/", "gs://bucket/x", "", None):
        assert containers.inputs({"dataset_name": text, "arguments": {"metric": [text], "duplicates": text}}) == set()


def test_every_flag_that_holds_a_place_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = (
        "dataset_name", "model_name_or_path", "tokenizer", "manifest", "heldout", "duplicates", "metric", "deepspeed",
        "fsdp_config", "resume_from_checkpoint", "tokenized_dataset_load_dir", "first", "second",
    )  # fmt: skip
    for name in names:
        (tmp_path / name).mkdir()
    arguments: dict[str, Any] = {name: name for name in names[2:6]} | {name: name for name in names[7:11]}
    arguments |= {"metric": ["metric"], "dataset_mixture": [{"name": "first/*"}, {"name": "second", "weight": 2}]}
    parameters = {"dataset_name": names[0], "model_name_or_path": names[1], "arguments": arguments}
    assert containers.inputs(parameters) == {tmp_path / name for name in names}
