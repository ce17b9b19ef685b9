"""A plan beside the training it was made for: real runs, one finished, one stopped, one over real servers."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

from headrace.artifacts.files import read_json
from headrace.entry import run_component
from headrace.errors import InputError
from headrace.forecast import score
from headrace.options import parse_mapping
from headrace.train.step import run as train
from headrace.validate.step import run as validate
from headrace_pipelines.__main__ import main
from tests.forecast.conftest import DATA, PYDOCS, TINY, Headrace, changed
from tests.servers.faultproxy import FaultProxy
from tests.servers.gcs import GcsServer
from tests.servers.hub import HubServer
from tests.servers.hub_repos import make_dataset_repo

TRAINING = {
    **DATA, "init_from_config": True, "max_steps": 9, "save_steps": 4, "save_total_limit": 2, "logging_steps": 3,
    "use_cpu": True, "disable_tqdm": True, "torch_threads": 1,
}  # fmt: skip


def planned(checked: Path, folder: Path, **more: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({**TRAINING, "hardware": "cpu", **more}))
    argv = ["--report", str(checked), "--config", str(folder / "run.json"), "--output_dir", str(folder)]
    assert main(["plan", *argv]) == 0
    found: dict[str, Any] = read_json(folder / "plan.json")
    return found


@pytest.fixture(scope="module")
def trained(checked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan, and beside it the training."""
    folder = tmp_path_factory.mktemp("scored")
    planned(checked, folder)
    (folder / "held.txt").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
    given = {"manifest": str(checked / "manifest.json"), "heldout": str(checked / "heldout.parquet")}
    run_component(train, parse_mapping({**TRAINING, **given}), folder / "out")
    return folder


def rows(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in found["rows"]}


def test_a_finished_run(headrace: Headrace, trained: Path) -> None:
    found = rows(json.loads(headrace("plan", "--score", trained / "out", "--json").out))
    record = read_json(trained / "out/headrace.json")
    for exact in ("tokens", "steps", "parameters", "checkpoint_files", "checkpoints_kept"):
        assert found[exact]["error"] == 0, found[exact]
    assert found["tokens"]["measured"] == record["tokens"] == 9 * 4 * 256
    assert abs(found["checkpoint_bytes"]["error"]) < 0.01
    assert found["tokens_per_s"]["measured"] == pytest.approx(record["tokens"] / record["seconds"])
    assert found["peak_memory_bytes"]["measured"] == max(e["memory_mb"] for e in record["history"]) * 1e6
    # 2 % of a process of its own. A test process may have held more before the training; the peak is that of its life.
    peak, before = found["peak_memory_bytes"], float((trained / "held.txt").read_text())
    assert peak["error"] < 0.25 and peak["measured"] - before < peak["predicted"][1]
    assert before > peak["predicted"][0] or peak["error"] > -0.25, (before, peak)
    said = headrace("plan", "--score", trained / "out")
    assert said.code == 0 and "(finished)" in said.out and "checkpoints kept" in said.out and "+0.0 %" in said.out


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_run_that_was_stopped_is_compared_up_to_its_newest_commit(headrace: Headrace, copy: Path) -> None:
    out = copy / "out"
    shutil.rmtree(out / "checkpoint-9")
    for name in ("headrace.json", "commit.json", "checkpoint.json"):
        (out / name).unlink()
    said = headrace("plan", "--score", out, "--json")
    answer = json.loads(said.out)
    found = rows(answer)
    assert answer["finished"] is False and found["steps"]["measured"] is None
    assert found["tokens"]["measured"] == 8 * 4 * 256 and found["tokens"]["error"] == 0
    state = read_json(out / "checkpoint-8/data_state.json")
    assert found["seconds"]["measured"] == state["trained"]["seconds"]
    assert "not finished" in headrace("plan", "--score", out).out


def test_a_run_of_another_shape_is_told(headrace: Headrace, copy: Path) -> None:
    plan = read_json(copy / "plan.json")
    changed(copy / "plan.json", run={**plan["run"], "ranks": 2})
    assert "note: world_size: planned 2, run with 1" in headrace("plan", "--score", copy / "out").out


def test_the_plan_is_found_where_a_run_leaves_it_or_where_it_is_named(headrace: Headrace, copy: Path) -> None:
    (copy / "validate").mkdir()
    (copy / "plan.json").rename(copy / "validate/plan.json")
    assert headrace("plan", "--score", copy / "out").code == 0
    (copy / "validate/plan.json").rename(copy / "elsewhere.json")
    assert headrace("plan", "--score", copy / "out").code == 2
    assert headrace("plan", "--score", copy / "out", "--plan", copy / "elsewhere.json").code == 0
    changed(copy / "elsewhere.json", version=0)
    with pytest.raises(InputError, match="no plan of this version"):
        score.compare(copy / "out", copy / "elsewhere.json")


def test_a_folder_that_is_no_training(headrace: Headrace, copy: Path, tmp_path: Path) -> None:
    said = headrace("plan", "--score", tmp_path, "--plan", copy / "plan.json")
    assert said.code == 2 and "is no output of `headrace train`" in said.err


def test_a_finished_run_is_not_planned_over(headrace: Headrace, checked: Path, trained: Path) -> None:
    said = headrace(
        "plan", "--report", checked, "--config", trained / "run.json", "--output_dir", trained / "out"
    )  # fmt: skip
    assert said.code == 2 and "holds a finished training" in said.err
    assert not (trained / "out/plan.json").exists()


def test_requests_are_those_that_real_servers_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"data/{p.name}": p for p in sorted((PYDOCS / "data").glob("*.parquet"))}
    make_dataset_repo(tmp_path / "hub", "org/docs", files, configs={"default": "data/*"})
    how = {**TRAINING, "dataset_name": "org/docs", "model_name_or_path": str(TINY), "save_total_limit": 1}
    with HubServer(tmp_path / "hub") as hub, GcsServer() as gcs, FaultProxy(gcs.url) as proxy:
        hub.patch(monkeypatch, tmp_path / "home")
        gcs.create_bucket("runs")
        for key, value in gcs.env(endpoint=proxy.url).items():
            monkeypatch.setenv(key, value)
        run_component(validate, parse_mapping(how), tmp_path / "checked")
        plan = planned(tmp_path / "checked", tmp_path / "plan", **how)
        asked, stored = len(hub.requests), len(proxy.log)
        assert not stored
        given = {
            "manifest": str(tmp_path / "checked/manifest.json"),
            "heldout": str(tmp_path / "checked/heldout.parquet"),
        }
        run_component(train, parse_mapping({**how, **given, "store": "gs://runs/one"}), tmp_path / "out")
        low, high = plan["data"]["read_requests"]
        assert low <= len(hub.requests) - asked <= high
        low, high = plan["checkpoints"]["store_requests"]
        assert low * 0.95 <= len(proxy.log) <= high
