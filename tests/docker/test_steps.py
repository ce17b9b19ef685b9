"""Each image by itself, as a user with only Docker runs it: volumes, users, secrets, signals, mistakes."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from headrace.artifacts.files import sha256_file
from tests.docker.conftest import ROOT, STRICT, docker, mounted
from tests.servers.hub import HubServer
from tests.servers.hub_repos import make_dataset_repo

pytestmark = pytest.mark.container
TRAINING = [
    "--init_from_config", "--max_steps", "12", "--save_steps", "4", "--per_device_train_batch_size", "2",
    "--torch_threads", "1", "--use_cpu", "--dataset_block_size", "64",
]  # fmt: skip


def test_the_three_steps_one_after_another(images: dict[str, str], volume: Path, flags: list[str]) -> None:
    strict = [*STRICT, *mounted(volume)]
    done = docker("run", "--rm", *strict, images["validate"], *flags, "--heldout_fraction", "0.1", "--output_dir", "v")
    assert done.returncode == 0, done.stderr
    assert json.loads((volume / "v" / "report.json").read_text())["verdict"] == "go"
    made = ["--manifest", "v/manifest.json", "--heldout", "v/heldout.parquet"]
    done = docker("run", "--rm", *strict, images["train"], *flags, *TRAINING, *made, "--output_dir", "t")
    assert done.returncode == 0, done.stderr
    assert (volume / "t" / "model.safetensors").stat().st_uid == 4711
    done = docker(
        "run", "--rm", *strict, images["evaluate"], "--model_name_or_path", "t", *made[2:], "--output_dir", "e"
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((volume / "e" / "metrics.json").read_text())
    assert metrics["documents"] == 6 and metrics["heldout_made"] is False
    lineage = json.loads((volume / "e" / "lineage.json").read_text())
    assert lineage["image"] == images["evaluate"] and lineage["git_commit"] in images["evaluate"]


def test_a_no_go_is_3(images: dict[str, str], volume: Path) -> None:
    (volume / "empty.jsonl").write_text('{"text": ""}\n' * 20)
    done = docker(
        "run", "--rm", *STRICT, *mounted(volume), images["validate"], "--dataset_name", "empty.jsonl",
        "--model_name_or_path", "/examples/tiny-gpt2", "--output_dir", "v",
    )  # fmt: skip
    assert done.returncode == 3 and "headrace: error: no-go" in done.stderr, done.stderr


@pytest.mark.parametrize("room", ["validate", "train", "evaluate"])
def test_bad_flags_are_2(room: str, images: dict[str, str]) -> None:
    done = docker("run", "--rm", "--network", "none", images[room], "--max_stepz", "3", "--output_dir", "x")
    assert done.returncode == 2 and done.stderr.startswith("headrace: error: "), done.stderr
    assert "Traceback" not in done.stderr


def test_a_volume_that_cannot_be_written(images: dict[str, str], tmp_path: Path, flags: list[str]) -> None:
    tmp_path.chmod(0o755)
    done = docker("run", "--rm", *STRICT, *mounted(tmp_path), images["validate"], *flags, "--output_dir", "/outputs/v")
    assert done.returncode == 2 and "cannot make the folder /outputs/v" in done.stderr
    assert "user 4711" in done.stderr and "Traceback" not in done.stderr


def test_a_read_only_root_without_a_place_for_temporary_files(images: dict[str, str]) -> None:
    done = docker("run", "--rm", "--read-only", images["train"], "--help")
    assert done.returncode == 2 and "--tmpfs /tmp" in done.stderr


def test_another_image_than_the_pipeline_was_compiled_for(
    images: dict[str, str], volume: Path, flags: list[str]
) -> None:
    run = ["run", "--rm", *STRICT, *mounted(volume), "-e", "HEADRACE_EXPECTED_IMAGE=9.9.9-abc", images["validate"]]
    done = docker(*run, *flags, "--output_dir", "v")
    assert done.returncode == 2 and "compiled for 9.9.9-abc" in done.stderr and images["validate"] in done.stderr
    assert json.loads((volume / "v" / "outcome.json").read_text())["code"] == 2


def test_secrets_as_files_and_where_they_are_missing(images: dict[str, str], volume: Path, tmp_path: Path) -> None:
    shards = [(path.name, path.read_bytes()) for path in sorted((ROOT / "examples/pydocs/data").glob("*.parquet"))[:1]]
    make_dataset_repo(tmp_path / "hub", "who/private", {f"data/{name}": data for name, data in shards})
    (volume / "token").write_text(HubServer.TOKEN)
    (volume / "none").write_text("")
    with HubServer(tmp_path / "hub", gated=["who/private"]) as hub:
        base = [
            "run", "--rm", "--network", "host", *mounted(volume), "-e", f"HF_ENDPOINT={hub.url}",
            "-e", "HF_HUB_DISABLE_XET=1", "-e", "NO_PROXY=127.0.0.1",
        ]  # fmt: skip
        step = [
            images["validate"], "--dataset_name", "who/private", "--model_name_or_path", "/examples/tiny-gpt2",
            "--output_dir", "v",
        ]  # fmt: skip
        done = docker(*base, *step)
        assert done.returncode == 2 and "HF_TOKEN" in done.stderr and "Traceback" not in done.stderr, done.stderr
        for name, says in (("nowhere", "cannot read"), ("none", "is empty")):
            done = docker(*base, "-e", f"HF_TOKEN_FILE=/outputs/{name}", *step)
            assert done.returncode == 2 and "HF_TOKEN_FILE is /outputs/" in done.stderr and says in done.stderr
        done = docker(*base, "-e", "HF_TOKEN_FILE=/outputs/token", *step)
        assert done.returncode == 0, done.stderr
        written = [path for path in (volume / "v").rglob("*") if path.is_file()]
        assert written and not any(HubServer.TOKEN.encode() in path.read_bytes() for path in written)
        assert HubServer.TOKEN not in done.stdout + done.stderr


def test_no_network_for_a_name_of_the_hub(images: dict[str, str], volume: Path) -> None:
    done = docker(
        "run", "--rm", *STRICT, *mounted(volume), images["validate"], "--dataset_name", "who/elsewhere",
        "--model_name_or_path", "/examples/tiny-gpt2", "--output_dir", "v",
    )  # fmt: skip
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr, done.stderr
    assert "headrace: error: " in done.stderr and "who/elsewhere" in done.stderr


def train(image: str, volume: Path, flags: list[str], folder: str) -> tuple[str, list[str]]:
    """A container's name, and the command that runs a training of some 20 s in it."""
    name = f"headrace-test-{uuid.uuid4().hex[:8]}"
    steps = [*TRAINING[:1], "--max_steps", "600", "--save_steps", "20", "--save_total_limit", "2", *TRAINING[5:]]
    return name, [
        "run", "--rm", "--name", name, *STRICT, *mounted(volume), image, *flags, *steps, "--output_dir", folder,
    ]  # fmt: skip


def wait_for_a_commit(folder: Path, known: set[str]) -> set[str]:
    until = time.monotonic() + 100
    while not (found := {p.parent.name for p in folder.glob("checkpoint-*/commit.json")}) - known:
        assert time.monotonic() < until, f"no new commit below {folder}"
        time.sleep(0.05)
    return found


def test_stopped_and_killed_it_goes_on_to_the_same_weights(
    images: dict[str, str], volume: Path, flags: list[str]
) -> None:
    _, whole = train(images["train"], volume, flags, "whole")
    assert docker(*whole).returncode == 0
    known: set[str] = set()
    for how, code in ((["stop", "--time", "30"], 75), (["kill"], 137)):
        name, command = train(images["train"], volume, flags, "again")
        with subprocess.Popen(["docker", *command], stderr=subprocess.PIPE, text=True) as process:
            known = wait_for_a_commit(volume / "again", known)
            assert docker(*how, name).returncode == 0
            said = process.communicate(timeout=60)[1]
        assert process.returncode == code, said
        known |= {p.parent.name for p in (volume / "again").glob("checkpoint-*/commit.json")}
    assert docker(*train(images["train"], volume, flags, "again")[1]).returncode == 0
    whole_hash, again_hash = (sha256_file(volume / each / "model.safetensors") for each in ("whole", "again"))
    assert whole_hash == again_hash


def test_a_full_shared_memory_is_told_from_another_bus_error(images: dict[str, str]) -> None:
    script = """
import mmap, os, signal, sys
from pathlib import Path
from headrace.train.ended import ended
child = os.fork()
if not child:
    with open("/dev/shm/x", "w+b") as file:
        file.truncate(32 << 20)
        mmap.mmap(file.fileno(), 32 << 20).write(b"1" * (32 << 20))
status = os.waitpid(child, 0)[1]
print(ended(-os.WTERMSIG(status), Path("/tmp")).message)
"""
    said = {
        size: docker("run", "--rm", "--shm-size", size, images["train"], "python3", "-c", script).stdout
        for size in ("1m", "1g")
    }
    assert "SIGBUS" in said["1m"] and "/dev/shm" in said["1m"] and "1 MiB" in said["1m"], said
    assert "/dev/shm" not in said["1g"], said
