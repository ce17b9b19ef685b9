"""TrainJobs, made with the real Kubeflow SDK in a Kubernetes API of the test's own."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.artifacts.checkpoint import CheckpointRef, commit
from headrace.artifacts.outcome import write_outcome
from headrace.artifacts.storage import LocalStore
from headrace.errors import HeadraceError, InputError, Preempted
from headrace.train import trainjob
from headrace.train.cluster import Cluster, Unreachable, Wanted
from headrace.train.node import job_folder
from headrace.train.pods import Pods
from tests.servers.kubernetes import TrainJobs
from tests.train.conftest import ROOT

FULL: dict[str, Any] = {
    "cpu": "8", "memory": "64Gi", "ephemeral_storage": "100Gi", "accelerators": 2.0, "shm": "8Gi",
    "node_selector": {"pool": "a100"}, "service_account": "trainer", "image_pull_secrets": ["registry"],
    "tolerations": [
        {"key": "gpu", "operator": "Exists", "effect": "NoSchedule", "value": None, "toleration_seconds": 60.0},
    ],
    "labels": {"team": "nlp"}, "annotations": {"why": "nightly"}, "secrets": {"headrace-hf": {"HF_TOKEN": "HF_TOKEN"}},
    "secret_files": {"gcs": "/secrets/gcs"}, "volumes": [{"claim": "runs", "path": "/runs"}],
    "env": {"NCCL_DEBUG": "WARN"}, "timeout_s": 3600,
}  # fmt: skip


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainJobs]:
    with TrainJobs() as server:
        # The client reads KUBECONFIG when it is imported.
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", server.kubeconfig(tmp_path))
        monkeypatch.setattr(trainjob, "POLL_S", 0.05)
        monkeypatch.setattr(trainjob.Logs, "AGAIN_S", 0.05)
        yield server
        assert server.violations == []


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def wanted(store: LocalStore, **pods: Any) -> Wanted:
    return Wanted(
        name=trainjob.name_of("run-1", store, {"max_steps": 4}), store=store.uri, nodes=2, processes=2,
        image="registry/headrace-python-train:1", run="run-1", pods=Pods.parse(pods),
    )  # fmt: skip


def train(api: TrainJobs, store: LocalStore, outage_s: float = 20.0, **pods: Any) -> Wanted:
    asked = wanted(store, **pods)
    trainjob.train(Cluster(asked.pods, outage_s=outage_s, wait_s=0.05), store, asked)
    return asked


def leave(store: LocalStore, code: int, error: str) -> None:
    """What rank 0 leaves."""
    folder = job_folder(store, wanted(store).name)
    folder.write("outcome.json", json.dumps({"code": code, "error": error, "remedy": "do"}).encode())


def test_the_trainjob_word_for_word(api: TrainJobs, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_POD_NAME", "step-pod")
    api.pod_owners = [
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "headrace-x", "uid": "u", "controller": True}
    ]
    name = train(api, store, **FULL).name
    resources = {"cpu": "8", "memory": "64Gi", "ephemeral-storage": "100Gi", "nvidia.com/gpu": "2"}
    mounts = [
        {"name": "headrace-0", "mountPath": "/dev/shm"},
        {"name": "headrace-1", "mountPath": "/run/headrace/secrets/headrace-hf", "readOnly": True},
        {"name": "headrace-2", "mountPath": "/secrets/gcs", "readOnly": True},
        {"name": "headrace-3", "mountPath": "/runs"},
    ]
    token = {"secretName": "headrace-hf", "optional": True, "items": [{"key": "HF_TOKEN", "path": "HF_TOKEN"}]}
    pod = {
        "metadata": {"labels": {"team": "nlp"}, "annotations": {"why": "nightly"}},
        "spec": {
            "serviceAccountName": "trainer",
            "volumes": [
                {"name": "headrace-0", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}},
                {"name": "headrace-1", "secret": token},
                {"name": "headrace-2", "secret": {"secretName": "gcs", "optional": True}},
                {"name": "headrace-3", "persistentVolumeClaim": {"claimName": "runs"}},
            ],
            "containers": [{"name": "node", "volumeMounts": mounts}],
            "imagePullSecrets": [{"name": "registry"}],
            "nodeSelector": {"pool": "a100"},
            "tolerations": [
                {"key": "gpu", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 60},
            ],
        },
    }
    patched = {"template": {"spec": {"replicatedJobs": [{"name": "node", "template": {"spec": {"template": pod}}}]}}}
    assert api.made == [
        {
            "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob",
            "metadata": {
                "name": name, "labels": {"team": "nlp", "headrace.run": "run-1"}, "annotations": {"why": "nightly"},
            },
            "spec": {
                "activeDeadlineSeconds": 3600,
                "runtimeRef": {"name": "torch-distributed", "kind": "ClusterTrainingRuntime"},
                "runtimePatches": [
                    {"manager": "trainer.kubeflow.org/kubeflow-sdk", "trainingRuntimeSpec": patched}
                ],
                "trainer": {
                    "image": "registry/headrace-python-train:1", "numNodes": 2,
                    "command": ["headrace-entrypoint"],
                    "args": ["torchrun", "--nproc_per_node", "2", "-m", "headrace.train.node", store.uri, name],
                    "resourcesPerNode": {"requests": resources, "limits": resources},
                    "env": [{"name": "NCCL_DEBUG", "value": "WARN"}],
                },
            },
        }
    ]  # fmt: skip
    owners = api.jobs[name]["body"]["metadata"]["ownerReferences"]
    assert owners == [{"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "headrace-x", "uid": "u"}]


def test_the_rights_it_needs_are_those_of_the_manifest(
    api: TrainJobs, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call of a whole life: made, owned, watched, failed, replaced, its log read."""
    monkeypatch.setenv("KFP_POD_NAME", "step-pod")
    api.pod_owners = [{"apiVersion": "v1", "kind": "Workflow", "name": "w", "uid": "u", "controller": True}]
    read = threading.Event()

    def log() -> Iterator[str]:
        read.set()
        yield "a line"

    api.log = log
    api.state = lambda name: "Failed" if read.wait(5) else "Running"
    for _ in range(2):
        with pytest.raises(HeadraceError, match="rank 0 left no word of why"):
            train(api, store)
    granted = set()
    for document in yaml.safe_load_all((ROOT / "examples" / "rbac.yaml").read_text()):
        for rule in document.get("rules", []) if document["kind"] in ("Role", "ClusterRole") else []:
            granted |= {
                (group, resource, verb, document["kind"] == "Role")
                for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]
            }  # fmt: skip
    assert {tuple(right) for right in api.rights} == granted


def test_its_states_and_its_log_are_shown(
    api: TrainJobs, store: LocalStore, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log is cut off after three lines and read anew: each line is shown once."""
    caplog.set_level(logging.INFO, "headrace")
    looks = iter(range(4))
    reads: list[int] = []
    done = threading.Event()

    def log() -> Iterator[str]:
        reads.append(1)
        lines = [f"line {i}" for i in range(3 + len(reads))]
        if len(reads) == 3:
            done.set()
        yield from lines

    api.log = log
    api.state = lambda name: "" if next(looks, None) is not None else "Complete" if done.is_set() else "Running"
    train(api, store)
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("line")]
    assert shown[:6] == [f"line {i}" for i in range(6)] and len(set(shown)) == len(shown)
    told = [r.getMessage() for r in caplog.records]
    assert any("Created, node-0 Pending, node-1 Pending" in line for line in told)
    assert any("Running, node-0 Running, node-1 Running" in line for line in told)


def test_a_retry_finds_the_same_one_and_resumes_it(api: TrainJobs, store: LocalStore) -> None:
    """The first attempt loses the API for longer than it waits; the second goes on waiting for what it made."""
    api.state = lambda name: "Running"
    api.started = lambda job: api.failures.extend([503] * 10_000)
    with pytest.raises(Unreachable, match="the API is away"):
        train(api, store, outage_s=0.3)
    assert len(api.jobs) == 1 and api.deleted == []
    api.failures.clear()
    api.state = lambda name: "Complete"
    CheckpointRef(uri=".", commit_hash="x", step=4).write(_made(store))
    train(api, store)
    assert len(api.made) == 1


def _made(store: LocalStore) -> Path:
    store.folder.mkdir(parents=True, exist_ok=True)
    return store.folder


@pytest.mark.parametrize("failure", [500, 503, 429, 0])
def test_an_api_that_restarts_is_waited_for(failure: int, api: TrainJobs, store: LocalStore) -> None:
    states = iter(["Running", "Running"])
    api.failures.extend([failure] * 6)
    api.state = lambda name: next(states, "Complete")
    train(api, store)
    assert len(api.made) == 1 and api.deleted == []


def test_a_lost_reply_does_not_make_two(api: TrainJobs, store: LocalStore) -> None:
    """The API makes it, and its answer is an error; the call is made again and meets 409."""
    lost = iter([True])
    reply = api._trainjob

    def answer(method: str, name: str, body: Any) -> tuple[int, Any]:
        code, value = reply(method, name, body)
        return (504, {}) if method == "POST" and next(lost, False) else (code, value)

    api._trainjob = answer  # type: ignore[method-assign]
    train(api, store)
    assert len(api.made) == 1


def test_one_that_failed_earlier_is_replaced(api: TrainJobs, store: LocalStore) -> None:
    api.terminating_s = 0.3
    api.state = lambda name: "Failed"
    leave(store, 1, "old")
    with pytest.raises(HeadraceError):
        train(api, store)
    api.state = lambda name: "Complete" if len(api.made) == 2 else "Failed"
    train(api, store)
    assert api.deleted == [wanted(store).name] and len(api.made) == 2
    assert not job_folder(store, wanted(store).name).exists("outcome.json")  # the old one's last word


def test_rank_0_says_why(api: TrainJobs, store: LocalStore) -> None:
    api.state = lambda name: "Failed"
    api.started = lambda job: leave(store, 1, "a disk is full")
    with pytest.raises(HeadraceError, match="a disk is full") as failed:
        train(api, store)
    assert failed.value.exit_code == 1 and failed.value.remedy == "do"


def test_an_input_error_ends_it_before_kubernetes_tries_again(api: TrainJobs, store: LocalStore) -> None:
    api.state = lambda name: "Running"
    api.started = lambda job: leave(store, 2, "no such column")
    with pytest.raises(InputError, match="no such column"):
        train(api, store)
    assert api.jobs == {} or api.deleted == [wanted(store).name]


def test_preempted_pods_are_followed_by_others_as_long_as_they_commit(
    api: TrainJobs, store: LocalStore, tmp_path: Path
) -> None:
    def start(job: Any) -> None:
        if len(api.made) <= 2:
            folder = _made(store) / f"checkpoint-{len(api.made)}"
            folder.mkdir()
            commit(folder, step=len(api.made), plan_hash="p")
        leave(store, 75, "stopped by SIGTERM")

    api.started, api.state = start, lambda name: "Failed"
    with pytest.raises(Preempted, match="stopped by SIGTERM"):
        train(api, store)
    assert len(api.made) == 3


def test_deleted_meanwhile(api: TrainJobs, store: LocalStore) -> None:
    def state(name: str) -> str:
        api.jobs[name]["gone_at"] = 0.0
        return "Running"

    api.state = state
    with pytest.raises(HeadraceError, match="was deleted while it trained") as failed:
        train(api, store)
    assert failed.value.exit_code == 1


def test_one_that_is_just_being_deleted_is_made_anew(api: TrainJobs, store: LocalStore) -> None:
    """As when the attempt before was asked to stop."""
    api.state = lambda name: "Running"
    asked = wanted(store)
    cluster = Cluster(asked.pods, wait_s=0.05)
    cluster.create(asked)
    api.terminating_s = 0.5
    cluster.delete(asked.name)
    api.state = lambda name: "Complete" if len(api.made) == 2 else "Running"
    train(api, store)
    assert len(api.made) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_asked_to_stop_it_deletes_it(number: int, api: TrainJobs, store: LocalStore) -> None:
    looks = []

    def state(name: str) -> str:
        looks.append(name)
        if len(looks) == 4:
            os.kill(os.getpid(), number)
        return "Running"

    api.state = state
    before = signal.getsignal(number)
    with pytest.raises(Preempted, match=r"stopped by SIG.* is deleted"):
        train(api, store)
    assert api.deleted == [wanted(store).name] and signal.getsignal(number) is before


def test_interrupted_by_the_keyboard_it_deletes_it(api: TrainJobs, store: LocalStore) -> None:
    api.state = lambda name: os.kill(os.getpid(), signal.SIGINT) or "Running"  # type: ignore[func-returns-value]
    with pytest.raises(KeyboardInterrupt):
        train(api, store)
    assert api.deleted == [wanted(store).name]


@pytest.mark.parametrize(("code", "says"), [(403, "refuses: .*the API is away"), (401, "refuses"), (400, "refuses")])
def test_what_the_api_refuses_is_an_input_error(code: int, says: str, api: TrainJobs, store: LocalStore) -> None:
    api.failures.extend([code] * 4)
    with pytest.raises(InputError, match=says) as refused:
        train(api, store)
    assert ("rbac.yaml" in refused.value.remedy) == (code != 400)


def test_a_runtime_that_is_not_there(api: TrainJobs, store: LocalStore) -> None:
    with pytest.raises(InputError, match="no training runtime called other"):
        train(api, store, runtime="other")


def test_a_limit_in_time_is_final(api: TrainJobs, store: LocalStore) -> None:
    api.state = lambda name: "Failed"
    api.started = lambda job: time.sleep(1.1)
    with pytest.raises(InputError, match="had not ended after 1 s"):
        train(api, store, timeout_s=1)


def test_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(InputError, match="no Kubernetes cluster"):
        Cluster(Pods())


@pytest.mark.parametrize(
    ("pods", "says"),
    [
        ({"cpus": "4"}, r"no field 'cpus' \(nearest: cpu\)"),
        ({"accelerators": "two"}, "pods.accelerators is 'two'; expected a whole number"),
        ({"accelerators": -1}, "expected 0 or more"),
        ({"launcher": "yes"}, "expected true or false"),
        ({"node_selector": ["a"]}, "expected a mapping"),
        ({"volumes": [{"claim": "a", "path": "b"}]}, "an absolute path"),
        ({"tolerations": [{"seconds": 3}]}, "unknown field 'seconds'"),
        ({"backend": "podman"}, "expected one of kubernetes, docker"),
    ],
)
def test_pods_that_do_not_fit(pods: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Pods.parse(pods)


def test_a_store_that_the_pods_do_not_share_is_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "runs" / "one")
    with pytest.raises(InputError, match="do not share"):
        trainjob.require_common(store, Pods())
    trainjob.require_common(store, Pods.parse({"volumes": [{"claim": "c", "path": str(tmp_path / "runs")}]}))


def test_the_outcome_is_what_write_outcome_leaves(store: LocalStore, tmp_path: Path) -> None:
    write_outcome(tmp_path, 2, "e", "r")
    folder = job_folder(store, "n")
    folder.upload_file(tmp_path / "outcome.json", "outcome.json")
    assert trainjob._outcome(folder) == {"code": 2, "error": "e", "remedy": "r"}
