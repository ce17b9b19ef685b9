"""Damaged checkpoints, full disks, losses that are no numbers, ranks that die."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from headrace.artifacts.checkpoint import committed, read_commit
from headrace.errors import InputError
from headrace.options import parse_mapping
from headrace.stream.ledger import Ledger
from headrace.train.checkpoints import Checkpoints
from headrace.train.health import Watch, Watchdog
from tests.train.conftest import Train, command_line, environment, logged, sha, strict

TIMEOUT_S = 200


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [Path.unlink, truncated, flipped])
def test_whatever_is_damaged_is_passed_over_by_name(
    damage: Callable[[Path], None], killed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newest = killed / "checkpoint-4"
    names = sorted(p.name for p in newest.iterdir())
    assert {"commit.json", "model.safetensors", "optimizer.pt", "data_state.json", "rng_state.pth"} <= set(names)
    kept = killed / "kept"
    shutil.copytree(newest, kept)
    for name in names:
        damage(newest / name)
        caplog.clear()
        found = Checkpoints(killed, None, None).choose(parse_mapping({}))
        assert found is not None and found.folder.name == "checkpoint-2", name
        assert any(name in r.getMessage() and "passed over" in r.getMessage() for r in caplog.records), name
        shutil.copyfile(kept / name, newest / name)
    assert Checkpoints(killed, None, None).choose(parse_mapping({})).folder == newest  # type: ignore[union-attr]


def test_another_runs_checkpoint_is_passed_over(killed: Path, caplog: pytest.LogCaptureFixture) -> None:
    Checkpoints(killed, None, None).record_run("mine")
    assert Checkpoints(killed, None, None).choose(parse_mapping({})) is None
    assert "is of the run" in caplog.text
    with pytest.raises(InputError, match="is of the run mine; --run_id is other"):
        Checkpoints(killed, None, None).choose(parse_mapping({"run_id": "other"}))


def test_the_same_command_with_a_named_checkpoint_goes_on_from_what_it_made(
    train: Train, finished: Path, tmp_path: Path
) -> None:
    """A retry of `--resume_from_checkpoint X` does not begin at X again."""
    out, named = tmp_path / "out", str(finished / "checkpoint-2")
    first = train(out, resume_from_checkpoint=named, max_steps=4)
    assert first["resumed_from"].endswith("checkpoint-2")
    again = train(out, resume_from_checkpoint=named)
    assert again["resumed_from"].endswith("checkpoint-4")


def test_a_full_disk_ends_it_with_what_was_committed_whole(
    train: Train, flags: dict[str, Any], killed: Path, finished: Path
) -> None:
    """A limit on the size of files fails in the middle of a write, as a full disk does."""
    size = (finished / "model.safetensors").stat().st_size

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    done = subprocess.run(
        [sys.executable, "-m", "headrace.train", *command_line(killed, flags)], preexec_fn=limit,
        capture_output=True, text=True, timeout=TIMEOUT_S, env=environment(),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "checkpoint-6" in done.stderr and "make room" in done.stderr and "Traceback" not in done.stderr
    assert strict(killed / "outcome.json")["code"] == 1
    assert [r.step for _, r in committed(killed).found] == [4, 2] and not (killed / "checkpoint-6").exists()
    train(killed, do_eval=True)
    assert sha(killed / "model.safetensors") == sha(finished / "model.safetensors")


def test_a_loss_that_is_no_number_stops_it_before_it_is_committed(train: Train, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"the loss of step \d+ is nan: the training has diverged") as refused:
        train(out, learning_rate=1e30, save_steps=1, max_steps=30)
    assert f"headrace peek {out} --step" in refused.value.remedy
    for folder, _ in committed(out).found:
        weights = load_file(folder / "model.safetensors")
        assert all(abs(w[w == w]).size for w in weights.values())


def test_a_loss_that_stands_out_is_told_once() -> None:
    watch = Watch()
    assert not any(watch.spike(s, 4.0 + 0.01 * (s % 7)) for s in range(30))
    assert watch.spike(30, 6.0) == pytest.approx(4.03)
    assert watch.spike(31, 6.0) is None
    assert not watch.unbearable(6.0) and watch.unbearable(float("nan"))
    patient = Watch(patience=3)
    assert [patient.unbearable(float("inf")) for _ in range(3)] == [False, False, True]


def test_a_step_that_does_not_end_is_told() -> None:
    said: list[str] = []
    dog = Watchdog(said.append, least_s=0.2)
    dog.doing("waiting for data")
    dog.start()
    dog.beat(7)
    time.sleep(0.5)
    dog.stop()
    assert said and "step 8 has not ended" in said[0] and "waiting for data" in said[0]


TWO = {
    "max_steps": 160, "save_steps": 20, "logging_steps": 3, "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 2,
}  # fmt: skip


def torchrun(out: Path, flags: dict[str, Any], **changed: Any) -> subprocess.Popen[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [str(Path(sys.executable).parent / "torchrun"), "--nproc_per_node", "2", "--master_port", port]
    return subprocess.Popen(
        [*command, "-m", "headrace.train", *command_line(out, flags, **{**TWO, **changed})],
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def committed_by(out: Path, process: subprocess.Popen[str], step: int) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not (out / f"checkpoint-{step}" / "commit.json").is_file():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.005)


def ranks_of(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of the launcher's children, by rank."""
    found = {}
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        for word in words:
            if word.startswith(b"RANK="):
                found[int(word[5:])] = int(pid)
    return [found[rank] for rank in sorted(found)]


def same_end(out: Path, whole: Path, steps: int) -> None:
    """Two trainings made the same model on the same tokens, bit for bit."""
    for name in ("model.safetensors", f"checkpoint-{steps}/optimizer.pt"):
        assert sha(out / name) == sha(whole / name), name
    assert logged(out) == logged(whole)
    assert Ledger.read(out / "ledger").digests == Ledger.read(whole / "ledger").digests
    assert read_commit(out).ledger_head == read_commit(whole).ledger_head


def test_two_ranks_stopped_and_killed_end_the_same(flags: dict[str, Any], tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    process = torchrun(whole, flags)
    assert process.wait(TIMEOUT_S) == 0, process.communicate()[1]
    process.communicate()
    # A scheduler's signal to one rank alone: both stop after the same step.
    process = torchrun(out, flags)
    committed_by(out, process, 20)
    os.kill(ranks_of(process)[1], signal.SIGUSR1)
    said = process.communicate(timeout=TIMEOUT_S)[1]
    assert strict(out / "outcome.json")["code"] == 75, said
    stopped = committed(out).found[0][1].step
    assert f"checkpoint-{stopped}" in strict(out / "outcome.json")["error"]
    # The launcher's own signal, as a pod gets it.
    process = torchrun(out, flags)
    committed_by(out, process, 60)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=TIMEOUT_S)[1]
    assert strict(out / "outcome.json")["code"] == 75, said
    # A rank that dies takes the other one along.
    process = torchrun(out, flags)
    committed_by(out, process, 100)
    began = time.monotonic()
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode != 0 and time.monotonic() - began < 40
    process = torchrun(out, flags)
    assert process.wait(TIMEOUT_S) == 0, process.communicate()[1]
    process.communicate()
    same_end(out, whole, 160)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("accumulation", "steps"), [(1, 2_400), (4, 1_200)])
def test_two_ranks_under_random_kills_end_the_same(
    accumulation: int, steps: int, flags: dict[str, Any], tmp_path: Path
) -> None:
    changed = {"gradient_accumulation_steps": accumulation, "max_steps": steps}
    whole, out, draw = tmp_path / "whole", tmp_path / "out", random.Random(accumulation)
    for _ in range(8):
        process = torchrun(out, flags, **changed)
        while len(ranks_of(process)) < 2:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 12.0))
        assert process.poll() is None, "the training had ended"
        os.kill(draw.choice(ranks_of(process)), draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1]))
        said = process.communicate(timeout=TIMEOUT_S)[1]
        assert process.returncode != 0, said
    for folder in (out, whole):
        process = torchrun(folder, flags, **changed)
        said = process.communicate(timeout=5 * TIMEOUT_S)[1]
        assert process.returncode == 0, said
    same_end(out, whole, steps)
