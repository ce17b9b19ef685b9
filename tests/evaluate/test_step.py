"""The whole step on a small model: what it writes, what it says, what it refuses."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
from safetensors.torch import load_file, save_file

from headrace.artifacts.files import read_json, write_json
from headrace.errors import DamagedCheckpoint, InputError
from headrace.evaluate.__main__ import main
from headrace.evaluate.step import run
from headrace.scoring.score import score_documents
from headrace.stream.heldout import HeldOut
from tests.evaluate.conftest import FRACTION, PLAN, options_for, seal
from tests.scoring.small import EXAMPLE, encoder, tiny_model
from tests.servers.hub import HubServer, make_model_repo

FILES = {"metrics.json", "report.html", "lineage.json", "README.md"}
INTERVALS = ("eval_loss", "perplexity", "accuracy", "bits_per_byte", "loss_over_unigram")


def command(model: Path, output: Path, *flags: str) -> list[str]:
    return ["--model_name_or_path", str(model), "--output_dir", str(output), "--torch_threads", "1", *flags]


def test_scores_a_training_output_and_leaves_every_file(
    model: Path, dataset: Path, heldout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    flags = ["--dataset_name", str(dataset), "--heldout_fraction", str(FRACTION), "--metric", "accuracy"]
    assert main(command(model, output, *flags)) == 0
    assert {path.name for path in output.iterdir()} >= {*FILES, "outcome.json", "progress.json", "published"}

    metrics = read_json(output / "metrics.json")
    texts = HeldOut.read(heldout).texts
    expected = score_documents(tiny_model(), encoder(), texts, block=24, batch_size=8, device="cpu").summary(seed=42)
    assert {key: metrics[key] for key in expected} == expected
    assert metrics["documents"] == 8 and metrics["block"] == 24 and metrics["heldout_made"] is True
    assert metrics["metrics"] == {"accuracy": metrics["accuracy"]}
    assert "heldout_note" not in metrics
    for name in INTERVALS:
        low, high = metrics[f"{name}_interval"]
        assert low <= metrics[name] <= high

    outcome = read_json(output / "outcome.json")
    assert (outcome["code"], outcome["eval_loss"], outcome["step"]) == (0, metrics["eval_loss"], 99)
    said = capsys.readouterr()
    assert f"made by the rule of --heldout_fraction {FRACTION}" in said.out
    assert f"{metrics['eval_loss']:.4f}" in said.out and outcome["published"] in said.out
    assert "error" not in said.err and "warn" not in said.err.lower()
    assert metrics["version"] in (output / "report.html").read_text()


def test_the_slice_of_a_file_is_the_one_made_by_the_rule(
    model: Path, dataset: Path, heldout: Path, tmp_path: Path
) -> None:
    made = options_for(model, dataset_name=str(dataset), heldout_fraction=FRACTION, max_eval_samples=3)
    read = options_for(model, heldout=str(heldout), max_eval_samples=3)
    one, other = run(made, tmp_path / "made"), run(read, tmp_path / "read")
    assert one["eval_loss"] == other["eval_loss"] and one["documents"] == other["documents"] == 3
    assert (one["heldout_made"], other["heldout_made"]) == (True, False)
    assert read_json(tmp_path / "made/metrics.json")["heldout"] == read_json(tmp_path / "read/metrics.json")["heldout"]


def test_a_slice_that_training_did_not_hold_out_is_noted(
    model: Path, dataset: Path, heldout: Path, tmp_path: Path
) -> None:
    other = options_for(model, dataset_name=str(dataset), heldout_fraction=0.9)
    run(other, tmp_path / "other")
    assert "another slice" in read_json(tmp_path / "other/metrics.json")["heldout_note"]
    assert "another slice" in (tmp_path / "other/README.md").read_text()
    record = read_json(model / "headrace.json")
    write_json(model / "headrace.json", {**record, "heldout": None})
    seal(model)
    run(options_for(model, heldout=str(heldout)), tmp_path / "none")
    assert "held nothing out" in read_json(tmp_path / "none/metrics.json")["heldout_note"]


def test_without_a_held_out_share_the_test_split_is_scored(model: Path, dataset: Path, tmp_path: Path) -> None:
    given = {"dataset_name": str(dataset), "heldout_fraction": 0}
    assert run(options_for(model, **given), tmp_path / "all")["documents"] == 4
    assert run(options_for(model, **given, max_eval_samples=3), tmp_path / "few")["documents"] == 3
    metrics = read_json(tmp_path / "all/metrics.json")
    assert metrics["heldout_made"] is False and "heldout_note" not in metrics
    with pytest.raises(InputError, match="no split 'exam'") as caught:
        run(options_for(model, **given, dataset_test_split="exam"), tmp_path / "no")
    assert "--heldout FILE" in caught.value.remedy


def test_files_have_no_test_split(model: Path, dataset: Path, tmp_path: Path) -> None:
    """A glob resolves to the same files whatever the split: they would be the training data."""
    files = str(dataset / "data" / "train-*.parquet")
    with pytest.raises(InputError, match="no split 'test'"):
        run(options_for(model, dataset_name=files, heldout_fraction=0), tmp_path / "out")


def test_a_plain_model_folder_and_a_chosen_block(model: Path, heldout: Path, tmp_path: Path) -> None:
    for name in ("commit.json", "checkpoint.json", "headrace.json"):
        (model / name).unlink()
    facts = run(options_for(model, heldout=str(heldout)), tmp_path / "plain")
    assert facts["version"].startswith("model-") and facts["commit_hash"] is None
    assert read_json(tmp_path / "plain/metrics.json")["block"] == 64
    run(options_for(model, heldout=str(heldout), dataset_block_size=10), tmp_path / "ten")
    assert read_json(tmp_path / "ten/metrics.json")["block"] == 10


def test_an_endless_perplexity_is_null_in_strict_json(
    model: Path, heldout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """D6."""
    weights = load_file(model / "model.safetensors")
    weights["transformer.ln_f.weight"] *= 1e4
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    seal(model)
    run(options_for(model, heldout=str(heldout)), tmp_path / "out")
    metrics = read_json(tmp_path / "out/metrics.json")
    assert metrics["eval_loss"] > 710 and metrics["perplexity"] is None and metrics["perplexity_note"]
    assert "not finite" in capsys.readouterr().out


def no_weights(model: Path, heldout: Path) -> dict[str, Any]:
    (model / "model.safetensors").unlink()
    seal(model)
    return {}


def only_a_configuration(model: Path, heldout: Path) -> dict[str, Any]:
    return {"model_name_or_path": str(EXAMPLE)}


def changed_weights(model: Path, heldout: Path) -> dict[str, Any]:
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(data[:-1] + b"\x7f")
    return {}


def small_vocabulary(model: Path, heldout: Path) -> dict[str, Any]:
    config = read_json(model / "config.json")
    write_json(model / "config.json", {**config, "vocab_size": 100})
    seal(model)
    return {}


def unreadable_slice(model: Path, heldout: Path) -> dict[str, Any]:
    broken = model.parent / "broken.parquet"
    broken.write_bytes(b"PAR1 and then nothing")
    return {"heldout": str(broken)}


def missing_slice(model: Path, heldout: Path) -> dict[str, Any]:
    return {"heldout": str(model / "none.parquet")}


def empty_slice(model: Path, heldout: Path) -> dict[str, Any]:
    path = model.parent / "empty.parquet"
    HeldOut(HeldOut.read(heldout).table.slice(0, 0)).write(path)
    return {"heldout": str(path)}


def no_documents(model: Path, heldout: Path) -> dict[str, Any]:
    return {"heldout": None}


def publishing_to_a_file(model: Path, heldout: Path) -> dict[str, Any]:
    return {"publish": str(heldout / "there")}


def publishing_nowhere(model: Path, heldout: Path) -> dict[str, Any]:
    return {"publish": "ftp://host/there"}


def unknown_metric(model: Path, heldout: Path) -> dict[str, Any]:
    return {"metric": ["rouge"]}


def too_large_a_block(model: Path, heldout: Path) -> dict[str, Any]:
    return {"dataset_block_size": 65}


def no_model(model: Path, heldout: Path) -> dict[str, Any]:
    return {"model_name_or_path": str(model / "none" / "here")}


def no_name(model: Path, heldout: Path) -> dict[str, Any]:
    return {"model_name_or_path": None}


def no_batch(model: Path, heldout: Path) -> dict[str, Any]:
    return {"eval_batch_size": 0}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_weights, r"has no weights: expected model\.safetensors"),
        (only_a_configuration, r"tiny-gpt2 has no weights"),
        (changed_weights, r"model\.safetensors was changed"),
        (small_vocabulary, r"ids up to 4095; the model .* has a vocabulary of 100"),
        (unreadable_slice, r"cannot read the held-out slice .*broken\.parquet"),
        (missing_slice, r"cannot read the held-out slice .*none\.parquet"),
        (empty_slice, r"no held-out documents"),
        (no_documents, r"neither --heldout nor a dataset"),
        (publishing_to_a_file, r"cannot write in .*heldout\.parquet"),
        (publishing_nowhere, r"cannot keep files in 'ftp"),
        (unknown_metric, r"no metric 'rouge'"),
        (too_large_a_block, r"--dataset_block_size is 65; the model takes at most 64"),
        (no_model, r"there is no folder"),
        (no_name, r"--model_name_or_path is missing"),
        (no_batch, r"--eval_batch_size is 0"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_a_model_is_loaded(
    spoil: Any, message: str, model: Path, heldout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("headrace.scoring.models.load_model", refuse)
    given = {"model_name_or_path": str(model), "heldout": str(heldout), **spoil(model, heldout)}
    with pytest.raises(InputError, match=message):
        run(options_for(**{"model": given.pop("model_name_or_path") or "", **given}), tmp_path / "out")


def test_no_documents_is_exit_2_and_names_the_flag(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(model, tmp_path / "out")) == 2
    said = capsys.readouterr().err
    assert said.startswith("headrace: error: ") and "--heldout" in said and "Traceback" not in said
    assert read_json(tmp_path / "out/outcome.json")["code"] == 2


def test_another_commit_than_the_one_named_is_refused(model: Path, heldout: Path, tmp_path: Path) -> None:
    reference = read_json(model / "checkpoint.json")
    write_json(model / "checkpoint.json", {**reference, "commit_hash": "0" * 64})
    with pytest.raises(DamagedCheckpoint, match="another checkpoint than the one meant"):
        run(options_for(model, heldout=str(heldout)), tmp_path / "out")


def test_lineage_tells_the_origin_and_no_secret(
    model: Path, dataset: Path, heldout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_IMAGE", "registry/headrace-python-evaluate:0.1.0-abc")
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    record = read_json(model / "headrace.json")
    record["dataset"]["name"] = "https://user:password@host/data.parquet?signature=53cr37"
    record["parent"]["model"] = "https://user:password@host/model?signature=53cr37"
    write_json(model / "headrace.json", record)
    commit_hash = seal(model)
    run(options_for(model, heldout=str(heldout)), tmp_path / "out")
    lineage = read_json(tmp_path / "out/lineage.json")
    assert (lineage["commit_hash"], lineage["step"], lineage["plan_hash"]) == (commit_hash, 99, PLAN)
    assert lineage["ledger"] == {"steps": [1, 99], "head": ""} and lineage["world_size"] == 2
    assert lineage["choice"] == {"filters": ["blank"], "mixture": [], "dedup": "", "seed": 42}
    assert lineage["parent"]["commit_hash"] == "9" * 64 and lineage["parent"]["model"] == "https://host/model"
    assert lineage["hardware"]["cores"] >= 1 and len(lineage["lock_sha256"]) == 64
    assert lineage["durations"]["train_s"] == 12.5 and lineage["durations"]["evaluate_s"] > 0
    assert lineage["gate"] == read_json(tmp_path / "out/metrics.json")["gate"]
    assert lineage["dataset"]["name"] == "https://host/data.parquet"
    assert lineage["dataset"]["manifest_hash"] == "7" * 64
    assert lineage["image"] == "registry/headrace-python-evaluate:0.1.0-abc"
    assert lineage["training"]["git_commit"] == "c" * 40 and lineage["packages"]["torch"]
    for path in (p for p in (tmp_path / "out").rglob("*") if p.is_file()):
        content = path.read_bytes()
        assert not any(secret in content for secret in (b"password", b"53cr37", b"hf_secretsecret")), path


def test_nothing_is_asked_of_the_network(
    model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError(f"the network was asked: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    given = {"dataset_name": str(dataset / "data" / "train-*.parquet"), "heldout_fraction": FRACTION}
    assert run(options_for(model, **given, metric=["accuracy"]), tmp_path / "out")["documents"] == 8


def test_a_model_of_the_hub(trained: Path, heldout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what loading needs is fetched, and the commit is recorded."""
    repo = tmp_path / "repo"
    shutil.copytree(trained, repo, ignore=shutil.ignore_patterns("commit.json", "checkpoint.json", "headrace.json"))
    for name in ("pytorch_model.bin", "onnx/model.safetensors", "model.fp16.safetensors"):
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).write_bytes(b"not needed")
    sha = make_model_repo(tmp_path / "hub", "org/tiny", repo)
    with HubServer(tmp_path / "hub") as server:
        server.patch(monkeypatch, tmp_path / "home")
        facts = run(options_for("org/tiny", heldout=str(heldout)), tmp_path / "out")
        with pytest.raises(InputError, match="no Hub model 'org/tidy'"):
            run(options_for("org/tidy", heldout=str(heldout)), tmp_path / "no")
        asked = " ".join(r.path for r in server.requests)
    assert facts["version"].startswith("model-")
    assert read_json(tmp_path / "out/lineage.json")["model_revision"] == sha
    assert "/model.safetensors" in asked
    assert not any(name in asked for name in ("pytorch_model.bin", "onnx/model", "fp16"))


def test_ranks_share_the_documents_and_agree_with_one(
    model: Path, heldout: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {
        **os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path), "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip
    flags = command(model, tmp_path / "two", "--heldout", str(heldout), "--metric", "accuracy")
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "headrace.evaluate", *flags],
            env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=200) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], said
    assert "held-out loss" in said[0][0] and said[1][0] == ""
    run(options_for(model, heldout=str(heldout), metric=["accuracy"]), tmp_path / "one")
    one, two = ((tmp_path / name / "metrics.json").read_text() for name in ("one", "two"))
    assert one == two and math.isfinite(json.loads(one)["eval_loss"])
