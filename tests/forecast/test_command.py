"""`headrace plan` end to end on a real report, and every mistake in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.stream.manifest import Manifest
from tests.forecast.conftest import DATA, ROOT, TINY, Headrace, changed

FLAGS = ["--model_name_or_path", str(TINY), "--per_device_train_batch_size", "4", "--hardware", "h100"]


def model(folder: Path, **fields: Any) -> str:
    """A model folder of that configuration alone."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(fields))
    return str(folder)


def llama(folder: Path, width: int = 4096, layers: int = 32) -> str:
    return model(
        folder, model_type="llama", hidden_size=width, num_hidden_layers=layers, num_attention_heads=32,
        num_key_value_heads=8, intermediate_size=14336, vocab_size=128256, max_position_embeddings=8192,
    )  # fmt: skip


def test_a_plan_of_the_shipped_corpus(headrace: Headrace, report: Path) -> None:
    said = headrace("plan", "--report", report / "report.json", *FLAGS, "--max_steps", 600, "--price_per_gpu_hour", 2)
    assert said.code == 0, said.err
    plan = json.loads((report / "plan.json").read_text())
    found = json.loads((report / "report.json").read_text())
    assert plan["version"] == 1
    assert plan["model"]["parameters"] == 953_856
    assert plan["data"]["available"] == found["estimates"]["train_tokens"] == 385_411
    assert plan["data"]["steps"] == 600 and plan["data"]["wanted"] == 600 * 4 * 256
    assert plan["data"]["epochs"] == pytest.approx(614_400 / 385_411)
    assert plan["run"]["exact_world_sizes"] == [1, 2, 4] and plan["run"]["lanes"] == 12
    assert plan["memory"]["fits"] == "yes" and plan["checkpoints"]["scheduled"] == 2
    assert plan["pace"]["cost"] == [2 * h for h in plan["pace"]["gpu_hours"]]
    for text in (said.out, (report / "plan.md").read_text()):
        assert all(word in text for word in ("tokens available", "385,411", "953,856", "bottleneck", "without filler"))
    assert said.out.startswith("plan: FITS on 1 x NVIDIA H100 SXM, 80 GB: ")


def test_every_field_of_a_plan_is_documented(headrace: Headrace, report: Path) -> None:
    plan = json.loads(headrace("plan", "--report", report, *FLAGS, "--max_steps", 9, "--json").out)
    page = (ROOT / "docs/planning.md").read_text().partition("## plan.json")[2]
    rows = {
        name: row for row in page.splitlines() if row.startswith("| `") for name in row.split("|")[1].split("`")[1::2]
    }
    assert set(rows) == set(plan)
    for name, part in plan.items():
        fields = set(part) - {"recommended"} if isinstance(part, dict) else set()
        assert fields <= set(rows[name].split("`")), name


def test_the_same_flags_give_the_same_plan_and_json_alone_on_stdout(
    headrace: Headrace, report: Path, tmp_path: Path
) -> None:
    how = ["plan", "--report", report, *FLAGS, "--max_steps", 9, "--json", "--output_dir"]
    one, two = headrace(*how, tmp_path / "one"), headrace(*how, tmp_path / "two")
    assert one.out == two.out and json.loads(one.out)["data"]["steps"] == 9
    assert (tmp_path / "one/plan.json").read_text() == (tmp_path / "two/plan.json").read_text() == one.out


def test_epochs_become_steps_as_training_counts_them(headrace: Headrace, report: Path) -> None:
    said = headrace("plan", "--report", report, *FLAGS, "--num_train_epochs", 2, "--json")
    data = json.loads(said.out)["data"]
    assert data["steps"] == 753 and data["epochs"] == pytest.approx(2, abs=0.01)  # ⌈2 · 385,411 / 256 / 4⌉


def test_lanes_follow_from_the_manifest_when_the_batch_is_another(headrace: Headrace, report: Path) -> None:
    manifest = Manifest.from_json(json.loads((report / "manifest.json").read_text()))
    assert manifest.known
    how = ["plan", "--report", report, *FLAGS, "--max_steps", 9, "--json", "--global_batch_size", 24, "--gpus", 3]
    run = json.loads(headrace(*how).out)["run"]
    assert (run["lanes"], run["lanes_from"]) == (12, "the manifest")
    assert (run["micro_batch"], run["accumulation"], run["efficiency"]) == (4, 2, 1.0)
    assert run["exact_world_sizes"] == [1, 2, 3, 4, 6, 12]
    (report / "manifest.json").unlink()
    assert json.loads(headrace(*how).out)["run"]["lanes_from"] == "the mean size of a row group"
    assert json.loads(headrace(*how, "--lanes", 6).out)["run"]["lanes"] == 6


def test_a_large_model_is_refused_with_what_would_help(headrace: Headrace, report: Path, tmp_path: Path) -> None:
    how = ["plan", "--report", report, "--model_name_or_path", llama(tmp_path / "llama"), "--max_steps", 9]
    said = headrace(*how, "--hardware", "h100", "--global_batch_size", 8)
    assert said.code == 3 and said.err.startswith("headrace: error: a micro-batch of 1 needs at least ")
    assert "NVIDIA H100 SXM, 80 GB has 80.0 GB\n  no micro-batch fits: try --gradient_checkpointing" in said.err
    assert "DOES NOT FIT" in said.out and (report / "plan.json").is_file()
    # In half precision throughout, with an optimizer of 8 bits, it does.
    less = ["--torch_dtype", "bfloat16", "--optim", "adamw_bnb_8bit", "--gradient_checkpointing"]
    assert headrace(*how, "--hardware", "h100", "--global_batch_size", 8, *less).code == 0


def test_a_micro_batch_that_is_too_large_is_refused_naming_one_that_fits(
    headrace: Headrace, report: Path, tmp_path: Path
) -> None:
    how = ["plan", "--report", report, "--model_name_or_path", llama(tmp_path / "llama", 2048, 8), "--hardware", "h100"]
    how += ["--max_steps", "9", "--dataset_block_size", "4096", "--global_batch_size", "64"]
    said = headrace(*how, "--per_device_train_batch_size", 32)
    assert said.code == 3
    best = json.loads((report / "plan.json").read_text())["run"]["recommended"]
    assert f"--per_device_train_batch_size {best['micro_batch']} with --global_batch_size 64 fits" in said.err
    assert headrace(*how, "--per_device_train_batch_size", best["micro_batch"]).code == 0
    # Without a micro-batch in the flags, the recommended one is what is planned for.
    assert headrace(*how).code == 0
    assert json.loads((report / "plan.json").read_text())["run"]["micro_batch"] == best["micro_batch"]


def test_the_stream_as_bottleneck(headrace: Headrace, report: Path) -> None:
    how = ["plan", "--report", report, *FLAGS, "--max_steps", 9, "--json"]
    plan = json.loads(headrace(*how, "--data_tokens_per_s", 100).out)
    assert plan["pace"]["bottleneck"] == "the stream" and plan["pace"]["step_s"] == [10.24, 10.24]
    # What the report measured stands in for the flag.
    changed(report / "report.json", measured={"rank_tokens_per_s": 200.0, "slower": "reading"})
    assert json.loads(headrace(*how).out)["pace"]["data_s"] == 5.12
    changed(report / "report.json", measured={"rank_tokens_per_s": None})
    assert json.loads(headrace(*how).out)["pace"]["data_s"] is None


def test_without_grouping_a_row_is_a_document(headrace: Headrace, report: Path) -> None:
    how = ["plan", "--report", report, *FLAGS, "--num_train_epochs", 1, "--json", "--dataset_group_text", "false"]
    plan = json.loads(headrace(*how).out)
    assert plan["data"]["samples_per_epoch"] == 1506 and any("padding" in n for n in plan["notes"])


def mistakes(report: Path, tmp_path: Path) -> dict[str, tuple[list[object], str]]:
    with_report: list[object] = ["--report", report, *FLAGS, "--max_steps", "9"]
    (tmp_path / "no.json").write_text("{}")
    return {
        "no report": ([*FLAGS], "--report is missing: a plan stands on what validate found"),
        "no such report": (["--report", tmp_path / "x.json", *FLAGS], "there is no report "),
        "another file": (["--report", tmp_path / "no.json", *FLAGS], "is no report of `headrace validate`"),
        "no hardware": (["--report", report], "--hardware is missing"),
        "unknown hardware": ([*with_report, "--hardware", "h101"], "--hardware is 'h101'"),
        "negative price": ([*with_report, "--price_per_gpu_hour", "-1"], "--price_per_gpu_hour is -1, expected 0"),
        "price that is none": ([*with_report, "--price_per_gpu_hour", "nan"], "--price_per_gpu_hour is nan"),
        "no GPU": ([*with_report, "--gpus", "0"], "--gpus is 0, expected 1 or more"),
        "more GPUs than lanes": (
            [*with_report, "--gpus", "16", "--global_batch_size", "4"], "--gpus is 16; a global batch of 4 has"
        ),
        "batch that divides nothing": (
            [*with_report, "--gpus", "2", "--global_batch_size", "4"], "--per_device_train_batch_size is 4; of a global"
        ),
        "no batch": ([*with_report, "--global_batch_size", "0"], "--global_batch_size is 0"),
        "no rate": ([*with_report, "--data_tokens_per_s", "0"], "--data_tokens_per_s is 0, expected more than 0"),
        "no step": ([*with_report, "--max_steps", "0"], "--max_steps is 0"),
        "no epoch": (["--report", report, *FLAGS, "--num_train_epochs", "0"], "--num_train_epochs is 0"),
        "precision": ([*with_report, "--hardware", "t4", "--bf16"], "it has no bf16"),
        "a GPU that is left idle": ([*with_report, "--use_cpu"], "--use_cpu is set: training would leave"),
        "block": ([*with_report, "--dataset_block_size", "512"], "--dataset_block_size is 512"),
        "model": ([*with_report, "--model_name_or_path", tmp_path / "none"], "there is no model folder"),
        "unknown flag": ([*with_report, "--gpu", "2"], "no flag is called --gpu (nearest: gpus"),
        "plan without score": ([*with_report, "--plan", "x"], "it needs --score"),
        "score of nothing": (["--score", tmp_path], "there is no plan at "),
        "score without a folder": (["--score"], "expected one argument"),
    }  # fmt: skip


NAMES = [
    "no report", "no such report", "another file", "no hardware", "unknown hardware", "negative price",
    "price that is none", "no GPU", "more GPUs than lanes", "batch that divides nothing", "no batch", "no rate",
    "no step", "no epoch", "precision", "a GPU that is left idle", "block", "model", "unknown flag",
    "plan without score", "score of nothing", "score without a folder",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_mistakes(name: str, headrace: Headrace, report: Path, tmp_path: Path) -> None:
    every = mistakes(report, tmp_path)
    assert list(every) == NAMES
    argv, expected = every[name]
    said = headrace("plan", *argv)
    first, *rest = said.err.splitlines()
    assert said.code == 2 and first.startswith("headrace: error: ") and expected in first
    assert len(rest) <= 1 and "Traceback" not in said.err and not said.out
    assert not (report / "plan.json").exists()


def test_a_report_that_says_no_go(headrace: Headrace, report: Path) -> None:
    finding = {"code": "x", "severity": "no-go", "message": "All rows are blank.", "evidence": {}, "remedy": "…"}
    changed(report / "report.json", verdict="no-go", findings=[finding])
    said = headrace("plan", "--report", report, *FLAGS)
    assert said.code == 2 and "says no-go: All rows are blank\n" in said.err


def test_a_model_with_fewer_words_than_the_tokenizer(headrace: Headrace, report: Path, tmp_path: Path) -> None:
    small = model(tmp_path / "m", model_type="gpt2", n_embd=8, n_layer=1, n_head=1, n_positions=256, vocab_size=10)
    said = headrace("plan", "--report", report, *FLAGS, "--model_name_or_path", small)
    assert said.code == 2 and "the report counts tokens of" in said.err


def test_a_model_without_a_formula_needs_torch(headrace: Headrace, report: Path, tmp_path: Path) -> None:
    """Where torch is not installed, the error says which architectures need none."""
    opt = model(
        tmp_path / "opt", model_type="opt", hidden_size=64, num_hidden_layers=2, num_attention_heads=2, ffn_dim=100,
        vocab_size=5000, word_embed_proj_dim=64, max_position_embeddings=256,
    )  # fmt: skip
    flags = ["plan", "--report", str(report), *FLAGS, "--max_steps", "9", "--model_name_or_path", opt]
    said = headrace(*flags)
    assert said.code == 0 and "opt has no formula" in said.out
    hidden = (
        "import sys, importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n == 'torch' else find(n, *a)\n"
        f"from headrace_pipelines.__main__ import main\nsys.exit(main({flags!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2 and "there are formulas for gpt2, gpt_neox, llama" in done.stderr


def test_planning_loads_no_training_library(report: Path) -> None:
    flags = ["plan", "--report", str(report), *FLAGS, "--max_steps", "9"]
    program = (
        f"import sys\nfrom headrace_pipelines.__main__ import main\nassert main({flags!r}) == 0\n"
        "assert not {'torch', 'transformers', 'accelerate', 'kfp', 'datasets'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_the_flags_of_training_may_come_from_its_file(headrace: Headrace, report: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(
        json.dumps({**DATA, "max_steps": 7, "use_cpu": False, "hardware": "l4", "gpus": 2})
    )
    said = headrace("plan", "--report", report, "--config", tmp_path / "run.json", "--json")
    plan = json.loads(said.out)
    assert (plan["data"]["steps"], plan["run"]["ranks"], plan["hardware"]["name"]) == (7, 2, "l4")
    assert plan["run"]["global_batch"] == 8
