"""`headrace run` as users start it: the real command, kfp's real runner, real signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.artifacts.checkpoint import CheckpointRef, read_commit
from headrace.artifacts.outcome import read_outcome

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 200


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of one narrow layer, and the shipped tokenizer."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    shutil.copytree(ROOT / "examples" / "tiny-gpt2", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"n_layer": 1, "n_embd": 32, "n_head": 2, "n_positions": 64})
    )
    return folder


@pytest.fixture
def config(model: Path, tmp_path: Path) -> Path:
    """A run of a few seconds, as the file that users write."""
    path = tmp_path / "run.yaml"
    values = {
        "dataset_name": str(ROOT / "examples" / "pydocs"), "model_name_or_path": str(model), "init_from_config": True,
        "heldout_fraction": 0.1, "max_eval_samples": 2, "max_steps": 3, "save_steps": 3, "logging_steps": 1,
        "per_device_train_batch_size": 4, "torch_threads": 1, "use_cpu": True, "output_dir": str(tmp_path / "runs"),
    }  # fmt: skip
    path.write_text(json.dumps(values))
    return path


def start(*flags: str | Path, **kwargs: Any) -> subprocess.Popen[str]:
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "disabled",
        "PYTHONPATH": f"{ROOT / 'components'}:{ROOT / 'pipelines'}",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "headrace_pipelines", "run", *map(str, flags)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **kwargs,
    )  # fmt: skip


def run(*flags: str | Path) -> tuple[int, str, str]:
    with start(*flags) as command:
        out, err = command.communicate(timeout=TIMEOUT_S)
    return command.returncode, out, err


def only_folder(root: Path) -> Path:
    (folder,) = root.iterdir()
    return folder


def recorded(folder: Path) -> dict[str, Any]:
    """What the exit handler wrote of a run."""
    (found,) = (folder / "published" / "runs").iterdir()
    return dict(json.loads(found.read_text()))


def processes_of(folder: Path) -> list[str]:
    """Command lines that name a run's folder: its steps' own processes carry it in their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue  # it has just ended
        if str(folder).encode() in words:
            found.append(words.replace(b"\0", b" ").decode()[:200])
    return found


def wait_for(path: Path, folder: Path) -> None:
    until = time.monotonic() + TIMEOUT_S
    while not path.exists():
        assert time.monotonic() < until, (folder / "log.txt").read_text()[-3000:]
        time.sleep(0.05)


def test_a_run_from_nothing_to_a_published_model(config: Path, tmp_path: Path) -> None:
    code, out, err = run("--config", config)
    assert code == 0, err
    folder = only_folder(tmp_path / "runs")
    # Only the summary and, last, the report: what kfp prints is in the log.
    lines = out.splitlines()
    assert lines[-1] == str(folder / "report.html") and "<html" in (folder / "report.html").read_text("utf-8")
    shown = [line.split("  ")[0] for line in lines[:-1]]
    assert shown[:3] == ["validation", "steps", "tokens"] and "published" in shown and "KFP" not in out
    assert "KFP Executor" in (folder / "log.txt").read_text()
    assert [read_outcome(folder / step)["code"] for step in ("validate", "train", "evaluate")] == [0, 0, 0]
    # The steps spoke through kfp's artifacts, and the model through its reference.
    (reference,) = (folder / "kfp").glob("*/train/model")
    assert CheckpointRef.read(reference).uri == str(folder / "train")
    assert [p.name for p in reference.iterdir()] == ["checkpoint.json"]
    assert CheckpointRef.read(reference).commit_hash == read_commit(folder / "train").hash
    metrics = json.loads((folder / "evaluate" / "metrics.json").read_text())
    assert metrics["documents"] == 2 and metrics["heldout_made"] is False
    published = read_outcome(folder / "evaluate")["published"]
    assert (Path(published) / "model.safetensors").is_file() and published in out
    assert json.loads((folder / "train" / "validation.json").read_text())["verdict"] == "go"
    assert json.loads((folder / "parameters.json").read_text())["arguments"]["max_steps"] == 3
    assert all(f"{step:8s} done in" in err for step in ("validate", "train", "evaluate"))
    # The DAG's own tasks: what the validation looked at, the lineage's model, and how it ended.
    assert recorded(folder)["state"] == "SUCCEEDED" and f"uri='{published}'" in (folder / "log.txt").read_text()


def test_a_no_go_ends_with_3_and_its_report(config: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array(["", None, " "] * 20, pa.string())}), tmp_path / "blank.parquet")
    code, out, err = run("--config", config, "--dataset_name", tmp_path / "blank.parquet")
    folder = only_folder(tmp_path / "runs")
    assert code == 3 and "headrace: error: validate: no-go: " in err and "Traceback" not in err
    assert out.splitlines()[-1] == str(folder / "report.html")
    assert (folder / "report.html").read_text() == (folder / "validate" / "report.html").read_text()
    assert not (folder / "train").exists() and "Refused: no-go: " in (folder / "log.txt").read_text()
    assert recorded(folder)["state"] == "FAILED"


def test_a_refusing_gate_ends_with_3_and_publishes_nothing(config: Path, tmp_path: Path) -> None:
    code, out, err = run("--config", config, "--gate_threshold", "perplexity < 1")
    folder = only_folder(tmp_path / "runs")
    assert code == 3 and "headrace: error: evaluate: the gate refused the model: perplexity is " in err
    assert "Traceback" not in err and out.splitlines()[-1] == str(folder / "report.html")
    assert "Refused: the gate refused the model" in (folder / "log.txt").read_text()
    assert {p.name for p in (folder / "published").iterdir()} == {"runs"}
    assert recorded(folder)["state"] == "FAILED"


def test_a_mistake_that_only_training_can_see(config: Path, tmp_path: Path) -> None:
    code, _, err = run("--config", config, "--resume_from_checkpoint", tmp_path / "nowhere")
    folder = only_folder(tmp_path / "runs")
    assert code == read_outcome(folder / "train")["code"] == 2
    assert f"headrace: error: train: there is no checkpoint folder {tmp_path / 'nowhere'}" in err
    assert "Traceback" not in err and str(folder / "log.txt") in err
    assert not (folder / "evaluate").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--dataset_name", ""], "--dataset_name is missing"),
        (["--max_steps", "some"], "--max_steps wants a whole number"),
        (["--do_train", "false"], "--do_train is false"),
        (["--output_dir", "/proc/none"], "/proc/none"),
    ],
)
def test_mistakes_in_the_flags_cost_no_run(flags: list[str], says: str, config: Path, tmp_path: Path) -> None:
    code, out, err = run("--config", config, *flags)
    assert (code, out) == (2, "") and err.startswith("headrace: error: ") and says in err
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def training(config: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A run whose training, of very many steps, has begun; and its folder."""
    with start("--config", config, "--max_steps", "1000000") as command:
        try:
            wait_for(tmp_path / "runs", tmp_path)
            folder = only_folder(tmp_path / "runs")
            wait_for(folder / "train", folder)
            yield command, folder
        finally:
            command.kill()


def test_stopped_it_leaves_nobody_behind(training: tuple[subprocess.Popen[str], Path]) -> None:
    command, folder = training
    assert any("executor_main" in words for words in processes_of(folder))
    command.send_signal(signal.SIGTERM)
    out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (128 + signal.SIGTERM, "")
    assert processes_of(folder) == [] and f"files stay in {folder}" in err and "Traceback" not in err


def test_killed_it_leaves_nobody_behind(training: tuple[subprocess.Popen[str], Path]) -> None:
    command, folder = training
    command.kill()
    until = time.monotonic() + 40
    while processes_of(folder):
        assert time.monotonic() < until, processes_of(folder)
        time.sleep(0.1)


def test_a_step_that_is_killed_is_told(training: tuple[subprocess.Popen[str], Path]) -> None:
    command, folder = training
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        words = path.read_bytes().split(b"\0")
        if b"kfp.dsl.executor_main" in words and str(folder).encode() in b" ".join(words):
            os.kill(int(path.parent.name), signal.SIGKILL)
    _, err = command.communicate(timeout=60)
    assert command.returncode == 1 and "headrace: error: " in err and "train" in err
