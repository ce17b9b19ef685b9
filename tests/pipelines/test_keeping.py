"""Where a run on a cluster may keep its model: what would be lost with a pod is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from headrace_pipelines.__main__ import main
from tests.pipelines.kfp_server import KfpServer

pytestmark = pytest.mark.usefixtures("alone")
ErrorOf = Callable[..., tuple[int, str]]
SMALL = ["--dataset_name", "data", "--model_name_or_path", "gpt2"]
CLUSTER = """
steps:
  train: {volumes: [{claim: runs, path: /data}, {claim: scratch, path: /own}]}
  evaluate: {volumes: [{claim: runs, path: /data}, {claim: other, path: /own}]}
"""


@pytest.fixture
def cluster(tmp_path: Path) -> list[str]:
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    return ["--cluster", str(tmp_path / "cluster.yaml")]


@pytest.mark.parametrize("name", ["store", "publish"])
@pytest.mark.parametrize("place", ["runs/gpt2", "/own/gpt2", "/data/../tmp/gpt2", "/database", "file:///tmp/x", "~/x"])
def test_a_folder_of_a_pod_is_refused(
    name: str, place: str, cluster: list[str], tmp_path: Path, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    asked = [*cluster, *SMALL, f"--{name}", place]
    code, said = error_of("compile", "--check", *asked)
    assert code == 2 and f"--{name} is {place}" in said and "lost with the pod" in said and "gs://" in said
    code, said = error_of("compile", "-o", str(tmp_path / "p.yaml"), *asked)
    assert code == 2 and "lost with the pod" in said and not (tmp_path / "p.yaml").exists()
    with KfpServer() as server:
        own = ["--host", server.url, *cluster, "--", *SMALL, f"--{name}", place]
        code, said = error_of("submit", "mine", *own)
        assert code == 2 and "lost with the pod" in said
        code, said = error_of("schedule", "mine", "--cron", "30 2 * * *", *own)
        assert code == 2 and "lost with the pod" in said
    assert not server.requests


@pytest.mark.parametrize("place", ["gs://bucket/x", "gs://bucket/run-{job}", "/data/gpt2", "file:///data/x"])
def test_a_bucket_or_a_volume_of_both_steps_is_taken(place: str, cluster: list[str]) -> None:
    places = ["--store", place, *([] if "{job}" in place else ["--publish", place])]
    assert main(["compile", "--check", *cluster, *SMALL, *places]) == 0


def test_a_relative_folder_is_not_the_one_where_the_command_stands(
    tmp_path: Path, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cluster.yaml").write_text(f"volumes: [{{claim: runs, path: {tmp_path}}}]")
    monkeypatch.chdir(tmp_path)
    code, said = error_of("compile", "--check", "--cluster", "cluster.yaml", *SMALL, "--store", "runs")
    assert code == 2 and "--store is runs" in said


def test_vertex_has_buckets_as_folders_and_no_volumes(cluster: list[str], error_of: ErrorOf) -> None:
    check = ["compile", "--check", "--target", "vertex", *cluster, *SMALL, "--publish"]
    assert main([*check, "/gcs/bucket/models"]) == 0
    code, said = error_of(*check, "/data/models")
    assert code == 2 and "/gcs" in said


def test_several_nodes_need_a_store(tmp_path: Path, error_of: ErrorOf) -> None:
    several = [*SMALL, "--num_nodes", "4"]
    code, said = error_of("compile", "--check", *several)
    assert code == 2 and "--num_nodes is 4, and there is no --store" in said
    with KfpServer() as server:
        assert error_of("submit", "mine", "--host", server.url, "--", *several)[0] == 2
    assert not server.requests
    assert main(["compile", "--check", *several, "--store", "gs://bucket/x"]) == 0
    assert main(["compile", "-o", str(tmp_path / "p.yaml"), *several]) == 0  # the store is typed in the UI
