"""The runs that examples/ shows: each compiles as it stands, and its data is found under the names it uses."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from headrace.options import parse_arguments
from headrace_pipelines.__main__ import main
from tests.pipelines.kfp_server import KfpServer
from tests.servers.gcs import GcsServer
from tests.servers.hub import HubServer, make_dataset_repo, make_model_repo

EXAMPLES = Path(__file__).parents[2] / "examples"
SHARDS = sorted((EXAMPLES / "pydocs" / "data").glob("*.parquet"))
RECIPE = """--dataset_streaming true --do_train --eval_strategy no --dataset_name HuggingFaceFW/fineweb
    --dataset_config_name CC-MAIN-2024-10 --dataset_group_text true --dataloader_num_workers 8 --max_steps 2500
    --model_name_or_path openai-community/gpt2 --output_dir /output-checkpoint --per_device_train_batch_size 8
    --logging_steps 50 --save_steps 1000"""
GROUPS = ("dataset", "model", "validate", "train", "evaluate", "tracking", "training")


def compiled(folder: Path, *flags: str) -> dict[str, Any]:
    """The defaults of a package's parameters."""
    path = folder / "pipeline.yaml"
    assert main(["compile", "-o", str(path), *flags]) == 0
    found, *_ = yaml.safe_load_all(path.read_text("utf-8"))
    spec = json_format.ParseDict(found, pipeline_spec_pb2.PipelineSpec())
    parameters = spec.root.input_definitions.parameters
    return {name: json_format.MessageToDict(p.default_value) for name, p in parameters.items()}


@pytest.mark.parametrize("name", ["fineweb-gpt2", "finetune-jsonl", "multi-node", "quickstart", "mixture"])
def test_it_compiles_with_all_that_it_says(name: str, tmp_path: Path) -> None:
    path = EXAMPLES / f"{name}.yaml"
    says = yaml.safe_load(path.read_text("utf-8"))
    (tmp_path / "cluster.yaml").write_text("{accelerators: 8}")
    defaults = compiled(tmp_path, "--config", str(path), "--cluster", str(tmp_path / "cluster.yaml"))
    found = {**defaults["arguments"], **defaults}
    assert {flag: found.get(flag) for flag in says} == says


def test_fineweb_is_the_recipe_with_a_store() -> None:
    def options(*argv: str) -> Any:
        return parse_arguments(argv, prog="test", description="", example="", groups=GROUPS)

    ours, recipe = options("--config", str(EXAMPLES / "fineweb-gpt2.yaml")), options(*shlex.split(RECIPE))
    assert ours.dataset == recipe.dataset and ours.model == recipe.model
    assert {**ours.training, "output_dir": "/output-checkpoint"} == recipe.training
    assert ours.given ^ recipe.given == {"store", "publish", "output_dir"}
    assert ours.train.store.startswith("gs://") and ours.evaluate.publish.startswith("gs://")


def test_the_nightly_script_makes_one_schedule_however_often_it_is_run(tmp_path: Path) -> None:
    bin_folder = Path(sys.executable).parent
    with KfpServer() as server:
        env = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "HEADRACE_KFP_HOST": server.url}
        for _ in range(2):
            subprocess.run(["sh", str(EXAMPLES / "nightly.sh")], check=True, cwd=tmp_path, env=env, timeout=100)
    assert server.violations == []
    (schedule,) = server.schedules.values()
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 0 2 * * *"
    parameters = schedule["runtime_config"]["parameters"]
    assert parameters["dataset_name"] == "HuggingFaceFW/fineweb"
    assert parameters["store"] == "gs://your-bucket/runs/nightly-{job}"


def validated(config: str, out: Path, env: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "headrace.validate", "--config", str(EXAMPLES / config), "--output_dir", str(out)],
        capture_output=True, text=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1", **env},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def test_the_data_of_fineweb_is_found(tmp_path: Path) -> None:
    make_model_repo(tmp_path / "hub", "openai-community/gpt2", EXAMPLES / "tiny-gpt2")
    files: dict[str, Path | bytes | str] = {f"data/CC-MAIN-2024-10/{p.name}": p for p in SHARDS}
    make_dataset_repo(tmp_path / "hub", "HuggingFaceFW/fineweb", files, {"CC-MAIN-2024-10": "data/CC-MAIN-2024-10/*"})
    with HubServer(tmp_path / "hub") as hub:
        report = validated("fineweb-gpt2.yaml", tmp_path / "out", hub.env(tmp_path / "home"))
    assert report["verdict"] != "no-go" and report["estimates"]["documents"] == 57


def test_the_data_of_the_fine_tuning_is_found(tmp_path: Path) -> None:
    files: dict[str, Path | bytes | str] = {p.name: p for p in (EXAMPLES / "tiny-gpt2").iterdir()}
    limits = json.loads((EXAMPLES / "tiny-gpt2" / "config.json").read_text()) | {"n_positions": 8192}
    make_model_repo(tmp_path / "hub", "HuggingFaceTB/SmolLM2-135M", files | {"config.json": json.dumps(limits)})
    with HubServer(tmp_path / "hub") as hub, GcsServer() as gcs:
        bucket = gcs.create_bucket("your-bucket")
        for n, shard in enumerate(SHARDS[:2]):
            rows = pq.read_table(shard, columns=["text"]).to_pylist()
            lines = "".join(json.dumps(row) + "\n" for row in [*rows, rows[0]])
            bucket.blob(f"support/answers-{n}.jsonl.gz").upload_from_string(gzip.compress(lines.encode()))
        report = validated("finetune-jsonl.yaml", tmp_path / "out", {**hub.env(tmp_path / "home"), **gcs.env()})
    assert report["verdict"] != "no-go" and report["facts"]["duplicates"] == 2
