"""Training as users start it: real commands, real launchers, real signals."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.artifacts.checkpoint import COMMIT, committed, read_commit, verify
from headrace.artifacts.files import write_json
from headrace.stream.ledger import Ledger
from tests.servers.hub import HubServer, make_dataset_repo, make_model_repo
from tests.train.conftest import PYDOCS, Train, command_line, environment, logged, losses, sha, strict
from tests.train.ranks import TIMEOUT_S, free_port, wait_for


def run(command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment(**env))
    assert done.returncode == 0, done.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def weights(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small weights to stand behind a Hub name, with the files that GPT-2 has there."""
    folder = tmp_path_factory.mktemp("weights") / "out"
    train(folder, max_steps=1)
    return folder


def test_row_47_the_recipe_as_it_is_written(weights: Path, tmp_path: Path) -> None:
    """99 steps saving every 50: the model in checkpoint-50, checkpoint-99 and the output folder."""
    names = ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
    make_model_repo(tmp_path / "hub", "openai-community/gpt2", {name: weights / name for name in names})
    shards = {f"data/CC-MAIN-2024-10/{p.name}": p for p in sorted((PYDOCS / "data").glob("*.parquet"))}
    make_dataset_repo(
        tmp_path / "hub", "HuggingFaceFW/fineweb", shards, configs={"CC-MAIN-2024-10": "data/CC-MAIN-2024-10/*"}
    )
    out = tmp_path / "output-checkpoint"
    recipe = (
        "--dataset_streaming true --do_train --eval_strategy no --dataset_name HuggingFaceFW/fineweb "
        "--dataset_config_name CC-MAIN-2024-10 --dataset_group_text true --dataloader_num_workers 8 --max_steps 99 "
        "--model_name_or_path openai-community/gpt2 --per_device_train_batch_size 8 --logging_steps 50 --save_steps 50"
    )
    with HubServer(tmp_path / "hub") as hub:
        done = run(
            [sys.executable, "-m", "headrace.train", *recipe.split(), "--output_dir", str(out)],
            **hub.env(tmp_path / "home"),
        )
    for folder in (out / "checkpoint-50", out / "checkpoint-99", out):
        assert (folder / "model.safetensors").is_file()
        verify(folder, read_commit(folder))
    assert [record.step for _, record in committed(out).found] == [99, 50]
    assert "steps" in done.stdout and "99" in done.stdout and str(out) in done.stdout
    assert "headrace.train.step" in done.stderr and "parameters" in done.stderr
    assert losses(out)[0][0] == 50 and losses(out)[0][1] < 8.3
    dataset = strict(out / "headrace.json")["dataset"]
    assert dataset["name"] == "HuggingFaceFW/fineweb" and len(dataset["revision"]) == 40  # D10: pinned


def test_killed_after_a_commit_it_goes_on_bit_for_bit(train: Train, flags: dict[str, Any], tmp_path: Path) -> None:
    long = {"max_steps": 40, "save_steps": 4, "logging_steps": 3}
    whole, out = tmp_path / "whole", tmp_path / "out"
    train(whole, **long)
    command = [sys.executable, "-m", "headrace.train", *command_line(out, flags, **long)]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(out / "checkpoint-8" / COMMIT, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "model.safetensors").exists()
    facts = train(out, **long)
    resumed = int(str(facts["resumed_from"]).rsplit("-", 1)[1])
    assert 8 <= resumed < 40
    for name in ("model.safetensors", "checkpoint-40/optimizer.pt", "checkpoint-40/rng_state.pth"):
        assert sha(out / name) == sha(whole / name), name
    assert logged(out) == logged(whole)
    # What was trained, step by step, is on record, though two processes wrote it.
    assert Ledger.read(out / "ledger").digests == Ledger.read(whole / "ledger").digests
    assert read_commit(out).ledger_head == read_commit(whole).ledger_head != ""


# Rank 1 owns one lane of three: its second micro-batch is filler alone, in every step that rank 0 has two samples.
SHARED = {
    "lanes": 3, "global_batch_size": 3, "per_device_train_batch_size": 1, "max_steps": 4, "save_steps": 2,
    "logging_steps": 1, "do_eval": True, "sample_prompt": "The list",
}  # fmt: skip


def _launchers() -> dict[str, list[str]]:
    scripts = Path(sys.executable).parent
    return {
        "torchrun": [str(scripts / "torchrun"), "--nproc_per_node", "2", "--master_port", free_port()],
        # On CPUs alone too: with --cpu it would start one process, whatever --num_processes says.
        "accelerate": [
            str(scripts / "accelerate"), "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
            "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", free_port(),
        ],
    }  # fmt: skip


def test_two_ranks_train_what_one_does(train: Train, flags: dict[str, Any], still: Path, tmp_path: Path) -> None:
    shared = {**SHARED, "model_name_or_path": str(still)}
    one = tmp_path / "one"
    train(one, **shared)
    two = tmp_path / "two"
    run([*_launchers()["torchrun"], "-m", "headrace.train", *command_line(two, flags, **shared)])
    _same_training(one, two, 2)
    assert Ledger.read(two / "ledger") == Ledger.read(one / "ledger")
    # A launcher that knows nothing of the first: it goes on from the two ranks' checkpoint, and ends the same.
    third = tmp_path / "third"
    shutil.copytree(two / "checkpoint-2", third / "checkpoint-2")
    run([*_launchers()["accelerate"], "-m", "headrace.train", *command_line(third, flags, **shared)])
    assert sha(third / "model.safetensors") == sha(two / "model.safetensors")
    assert losses(third) == losses(two)
    # And one rank goes on from two.
    fewer = tmp_path / "fewer"
    shutil.copytree(two / "checkpoint-2", fewer / "checkpoint-2")
    train(fewer, **shared)
    _same_training(one, fewer, 1)


def _same_training(one: Path, other: Path, world_size: int) -> None:
    a, b = strict(one / "headrace.json"), strict(other / "headrace.json")
    for name in ("plan_hash", "tokens", "steps", "global_batch"):
        assert a[name] == b[name], name
    assert a["world_size"] == 1 and b["world_size"] == world_size
    assert [s["before"] for s in a["samples"]] == [s["before"] for s in b["samples"]] != []
    assert all(len(s["after"]) > 10 for s in b["samples"])
    assert a["evaluation"]["eval_loss"] == pytest.approx(b["evaluation"]["eval_loss"], rel=1e-4)
    theirs = dict(losses(other))
    assert theirs.keys() == dict(losses(one)).keys()
    for step, loss in losses(one):
        assert theirs[step] == pytest.approx(loss, rel=1e-4), step
    lanes = [strict(out / "checkpoint-4" / "data_state.json")["lanes"] for out in (one, other)]
    assert lanes[0] == lanes[1]  # the same samples, lane by lane


def test_every_rank_ends_with_the_code_of_the_first(flags: dict[str, Any], tmp_path: Path) -> None:
    """The data is not there: only rank 0 looks, both ranks say so by their exit code."""
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "headrace.train", *command_line(tmp_path, flags, dataset_name="/nowhere")],
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2",
                            MASTER_ADDR="127.0.0.1", MASTER_PORT=port),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=TIMEOUT_S) for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    assert "headrace: error:" in said[0][1] and "/nowhere" in said[0][1]
    assert "Traceback" not in said[0][1] + said[1][1] and "error" not in said[1][1]
    assert strict(tmp_path / "outcome.json")["code"] == 2


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    config = tmp_path / "run.json"
    write_json(config, {"dataset_name": str(PYDOCS), "model_name_or_path": str(PYDOCS), "no_cuda": True})
    done = subprocess.run(
        [sys.executable, "-m", "headrace.train", "--config", str(config), "--output_dir", str(tmp_path / "out")],
        capture_output=True, text=True, timeout=TIMEOUT_S, env=environment(),
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines() == [
        "headrace: error: --no_cuda is gone from TrainingArguments", "  use use_cpu",
    ]  # fmt: skip
