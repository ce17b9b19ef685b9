"""The reader of offline runs, against what the real client wrote."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.wandb_files import find_runs, read_run


def test_an_offline_run_reads_back(tmp_path: Path) -> None:
    code = """
import pathlib, sys, wandb
folder = pathlib.Path(sys.argv[1])
run = wandb.init(project="headrace", name="first", job_type="train", tags=["a", "b"], dir=folder,
                 config={"lr": 0.1, "model": {"layers": 2}})
run.config.update({"steps": 3})
for step in range(3):
    run.log({"loss": 1.0 / (step + 1), "text": "x" * 40_000})
(folder / "model.bin").write_bytes(b"12345")
artifact = wandb.Artifact("model", "model", metadata={"step": 3})
artifact.add_file(str(folder / "model.bin"))
run.log_artifact(artifact, aliases=["best"])
run.summary["final"] = 7
run.finish(exit_code=3)
"""
    env = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DATA_DIR": str(tmp_path), "WANDB_API_KEY": ""}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env={**os.environ, **env}, check=True, timeout=120)
    (file,) = find_runs(tmp_path)
    found = read_run(file)
    assert file.name == f"run-{found.id}.wandb"
    assert (found.project, found.name, found.job_type) == ("headrace", "first", "train")
    assert found.tags == ("a", "b")
    assert found.config == {"lr": 0.1, "model": {"layers": 2}, "steps": 3}
    logged = [(h["_step"], h["loss"], len(h["text"])) for h in found.history]
    assert logged == [(step, 1 / (step + 1), 40_000) for step in range(3)]
    assert found.summary["final"] == 7 and found.exit_code == 3
    (artifact,) = found.artifacts
    assert (artifact.name, artifact.type, artifact.metadata) == ("model", "model", {"step": 3})
    assert "best" in artifact.aliases and artifact.files == {"model.bin": 5}

    whole = file.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 40_000, 7):  # as a kill leaves it
        (tmp_path / "cut.wandb").write_bytes(whole[:size])
        cut = read_run(tmp_path / "cut.wandb")
        assert cut.exit_code is None and cut.history == found.history[: len(cut.history)]
    (tmp_path / "cut.wandb").write_bytes(whole[:5000] + b"\xff" + whole[5001:])
    with pytest.raises(ValueError, match="damaged at byte"):
        read_run(tmp_path / "cut.wandb")
    with pytest.raises(ValueError, match="not a file of an offline W&B run"):
        read_run(tmp_path / "model.bin")
