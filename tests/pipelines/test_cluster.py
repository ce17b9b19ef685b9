"""What examples/cluster.yaml and others like it become: in the package for Kubeflow, and in the one for Vertex AI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from headrace.errors import InputError
from headrace.train.pods import Pods
from headrace_pipelines.__main__ import main
from headrace_pipelines.cluster import STEPS, Pod, default_cluster, launcher, read_cluster

EXAMPLE = Path(__file__).parents[2] / "examples" / "cluster.yaml"
EVERYTHING = """
image_pull_secrets: [registry]
image_pull_policy: Always
labels: {team: nlp}
annotations: {note: "1"}
secrets: {headrace-hf: {token: HF_TOKEN}, other: {key: OTHER_KEY}}
secret_files: {headrace-gcs: /var/secrets/gcs}
env: {GOOGLE_APPLICATION_CREDENTIALS: /var/secrets/gcs/key.json}
volumes: [{claim: corpora, path: /data}]
steps:
  train:
    cpu: 8
    memory: 64Gi
    accelerator: amd.com/gpu
    accelerators: 2
    vertex_accelerator: NVIDIA_H100_80GB
    shm: 16Gi
    ephemeral_storage: 100Gi
    storage_class: fast
    node_selector: {pool: gpu, size: 8}
    labels: {step: train}
    tolerations: [{key: gpu, operator: Equal, value: "yes", effect: NoExecute, toleration_seconds: 60}]
    timeout_s: 3600
    retries: 7
"""


def compiled(tmp_path: Path, text: str, target: str = "kfp") -> tuple[dict[str, Any], dict[str, Any]]:
    """Container of each task, and what Kubernetes gives it; the latter empty where there is no second document."""
    cluster, package = tmp_path / "cluster.yaml", tmp_path / f"{target}.yaml"
    cluster.write_text(text)
    assert main(["compile", "-o", str(package), "--cluster", str(cluster), "--target", target]) == 0
    spec, *platforms = yaml.safe_load_all(package.read_text("utf-8"))
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    for platform in platforms:
        json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    executors = spec["deploymentSpec"]["executors"]
    kubernetes = platforms[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if platforms else {}
    return {name: e["container"] for name, e in executors.items() if "container" in e}, kubernetes


def test_every_field_reaches_the_package(tmp_path: Path) -> None:
    containers, kubernetes = compiled(tmp_path, EVERYTHING)
    resources = containers["exec-train"]["resources"]
    assert resources["cpuLimit"] == resources["cpuRequest"] == 8.0
    assert resources["memoryLimit"] == resources["memoryRequest"] == 68.719476736
    assert (resources["accelerator"]["type"], resources["accelerator"]["count"]) == ("amd.com/gpu", "2")
    train = kubernetes["exec-train"]
    assert train["imagePullSecret"][0]["secretName"] == "registry" and train["imagePullPolicy"] == "Always"
    assert train["podMetadata"] == {"labels": {"team": "nlp", "step": "train"}, "annotations": {"note": "1"}}
    assert {m["mountPath"]: m for m in train["emptyDirMounts"]} == {
        "/dev/shm": {"volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "16Gi"}
    }
    (scratch,) = train["genericEphemeralVolume"]
    assert (scratch["mountPath"], scratch["size"], scratch["storageClassName"]) == ("/tmp", "100Gi", "fast")
    assert train["nodeSelector"] == {"labels": {"pool": "gpu", "size": "8"}}
    assert train["tolerations"] == [
        {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute", "tolerationSeconds": "60"}
    ]
    assert train["activeDeadlineSeconds"] == "3600"
    (mount,) = train["pvcMount"]
    assert (mount["constant"], mount["mountPath"]) == ("corpora", "/data")
    assert {s["secretName"]: {k["secretKey"]: k["envVar"] for k in s["keyToEnv"]} for s in train["secretAsEnv"]} == {
        "headrace-hf": {"token": "HF_TOKEN"}, "other": {"key": "OTHER_KEY"},
        "headrace-wandb": {"WANDB_API_KEY": "WANDB_API_KEY"},
    }  # fmt: skip
    (files,) = train["secretAsVolume"]
    assert (files["secretName"], files["mountPath"], files["optional"]) == ("headrace-gcs", "/var/secrets/gcs", True)
    assert all(s["optional"] for s in train["secretAsEnv"])
    for container in containers.values():
        credentials = {"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": "/var/secrets/gcs/key.json"}
        assert credentials in container["env"]


def test_one_step_s_fields_are_its_own(tmp_path: Path) -> None:
    containers, kubernetes = compiled(tmp_path, EVERYTHING)
    assert "accelerator" not in containers["exec-validate"]["resources"]
    assert containers["exec-evaluate"]["resources"]["accelerator"]["type"] == "nvidia.com/gpu"
    for task in ("exec-validate", "exec-pin", "exec-record", "exec-evaluate"):
        assert kubernetes[task]["podMetadata"]["labels"] == {"team": "nlp"}
        assert not {"nodeSelector", "tolerations", "emptyDirMounts", "activeDeadlineSeconds"} & set(kubernetes[task])
    assert containers["exec-pin"]["resources"]["cpuLimit"] == containers["exec-refuse"]["resources"]["cpuLimit"] == 0.5


def test_on_several_nodes_each_gets_what_one_pod_would_and_the_step_little(tmp_path: Path) -> None:
    """The pods parameter, read as the train step reads it; the step's own pod asks for no GPU."""
    (tmp_path / "cluster.yaml").write_text(EVERYTHING)
    package = tmp_path / "p.yaml"
    flags = ["--cluster", str(tmp_path / "cluster.yaml"), "--num_nodes", "4", "--nproc_per_node", "2"]
    assert main(["compile", "-o", str(package), *flags]) == 0
    spec, platform = yaml.safe_load_all(package.read_text("utf-8"))
    parameters = spec["components"]["comp-condition-4"]["dag"]["tasks"]["train"]["inputs"]["parameters"]
    given = parameters["pods"]["runtimeValue"]["constant"]
    pods = Pods.parse(given)
    assert (pods.cpu, pods.memory, pods.ephemeral_storage, pods.shm) == ("8", "64Gi", "100Gi", "16Gi")
    assert (pods.accelerator, pods.accelerators, pods.launcher, pods.timeout_s) == ("amd.com/gpu", 2, True, 3600)
    assert pods.labels == {"team": "nlp", "step": "train"} and pods.node_selector == {"pool": "gpu", "size": "8"}
    assert pods.secrets["other"] == {"key": "OTHER_KEY"} and pods.volumes == [{"claim": "corpora", "path": "/data"}]
    assert pods.runtime == "torch-distributed" and pods.image_pull_secrets == ["registry"]
    train = spec["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"]
    assert "accelerator" not in train and train["cpuLimit"] == 0.5
    assert "emptyDirMounts" not in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]
    defaults = {n: p.get("defaultValue") for n, p in spec["root"]["inputDefinitions"]["parameters"].items()}
    assert (defaults["num_nodes"], defaults["nproc_per_node"]) == (4, 2)
    assert defaults["arguments"]["world_size"] == 8


def test_more_processes_than_gpus_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["compile", "-o", str(tmp_path / "p.yaml"), "--nproc_per_node", "8"]
    assert main(flags) == 2
    assert "--nproc_per_node is 8, and the train step gets 1 nvidia.com/gpu" in capsys.readouterr().err
    (tmp_path / "cluster.yaml").write_text("{accelerators: 0}")
    assert main([*flags, "--cluster", str(tmp_path / "cluster.yaml")]) == 0  # on CPUs any number goes


def test_the_pod_that_waits_for_a_train_job_stays_off_the_gpu_nodes(tmp_path: Path) -> None:
    train = launcher(read_cluster(EXAMPLE)["train"], read_cluster(EXAMPLE)["validate"])
    assert (train.node_selector, train.tolerations, train.accelerators) == ({}, [], 0)
    assert train.retries == 5 and train.secrets == default_cluster()["train"].secrets


def test_secrets_go_only_where_they_are_used(tmp_path: Path) -> None:
    _, kubernetes = compiled(tmp_path, "{}")
    assert {task: {s["secretName"] for s in e.get("secretAsEnv", ())} for task, e in kubernetes.items()} == {
        "exec-pin": {"headrace-hf"}, "exec-validate": {"headrace-hf"}, "exec-train": {"headrace-hf", "headrace-wandb"},
        "exec-evaluate": {"headrace-hf", "headrace-wandb"}, "exec-record": {"headrace-hf"},
        "exec-refuse": {"headrace-hf"}, "exec-refuse-2": {"headrace-hf"},
    }  # fmt: skip


def test_vertex_gets_one_document_with_its_own_names_of_gpus(tmp_path: Path) -> None:
    containers, kubernetes = compiled(tmp_path, EVERYTHING, "vertex")
    assert kubernetes == {}
    assert containers["exec-train"]["resources"]["accelerator"]["type"] == "NVIDIA_H100_80GB"
    assert containers["exec-evaluate"]["resources"]["accelerator"]["type"] == "NVIDIA_L4"


def test_a_cpu_cluster_asks_for_no_gpu(tmp_path: Path) -> None:
    containers, _ = compiled(tmp_path, "{accelerators: 0}")
    assert not any("accelerator" in c["resources"] for c in containers.values())


def test_the_example_is_read_and_the_empty_file_is_the_default(tmp_path: Path) -> None:
    assert read_cluster(EXAMPLE)["train"].tolerations[0].operator == "Exists"
    (tmp_path / "empty.yaml").write_text("")
    assert read_cluster(tmp_path / "empty.yaml") == default_cluster()


def test_the_example_has_every_field() -> None:
    text = EXAMPLE.read_text("utf-8")
    assert [name for name in Pod.model_fields if f"{name}:" not in text] == []
    assert all(f"{step}:" in text for step in STEPS)


@pytest.mark.parametrize(
    "text",
    [
        "{cpu: 0.5, memory: 1000000000}",
        "labels: {app.kubernetes.io/part-of: headrace, empty: '', A_b.c-9: V_a.l-1}",
        "annotations: {note: any text at all}",
        "volumes: [{claim: my.claim-1, path: /tmp/data}, {claim: b, path: /dev/shm/b}]",
        "{storage_class: fast, steps: {train: {ephemeral_storage: 1Gi}}}",
        "{secrets: {a.b: {tls.crt: CRT}}, env: {http_proxy: 'http://there'}}",
    ],
)
def test_what_kubernetes_takes_is_taken(text: str, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(text)
    assert set(read_cluster(tmp_path / "cluster.yaml")) == set(STEPS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cpus: 2", "cpus: Extra inputs are not permitted, found 2"),
        (
            "steps: {train: {cpu: lots}}",
            "steps.train.cpu: expected CPUs, more than 0, such as 2",
        ),
        ("steps: {train: {memory: 8 GB}}", "steps.train.memory: expected bytes, more than 0, such as 8Gi or 500M"),
        ("steps: {training: {cpu: 2}}", "steps.training: there are validate, train, evaluate"),
        ("steps: {train: 8}", "steps.train: expected a mapping of fields, found 8"),
        ("steps: {train: [1]}", "steps.train: expected a mapping of fields, found [1]"),
        ("steps: {evaluate: 0}", "steps.evaluate: expected a mapping of fields, found 0"),
        ("steps: {evaluate: ''}", "steps.evaluate: expected a mapping of fields, found ''"),
        ("{cpus: 2, steps: {train: 8}}", "steps.train: expected a mapping of fields, found 8; cpus: Extra inputs"),
        ("steps: [1]", "is no mapping of fields"),
        ("steps: 0", "is no mapping of fields"),
        ("cpu: 0", "cpu: expected CPUs, more than 0, such as 2, 0.5 or 500m, found 0"),
        ("cpu: 0m", "cpu: expected CPUs, more than 0"),
        ("memory: 500K", "memory: expected bytes, more than 0, such as 8Gi or 500M"),
        ("shm: 0Gi", "shm: expected bytes, more than 0"),
        ("labels: {my team: nlp}", "labels.my team: expected a key such as app or example.org/app"),
        ("labels: {Example.org/team: nlp}", "labels.Example.org/team: expected a key"),
        ("labels: {team: two words}", "labels.team: expected nothing or letters"),
        (f"labels: {{{'a' * 64}: nlp}}", "expected a key"),
        ("annotations: {my note: two words}", "annotations.my note: expected a key"),
        ("node_selector: {node pool: gpu}", "node_selector.node pool: expected a key"),
        ("accelerator: nvidia gpu", "accelerator: expected a key"),
        ("secrets: {My Secret: {key: KEY}}", "secrets.My Secret: expected a name of small letters"),
        ("secrets: {mine: {my key: KEY}}", "secrets.mine.my key: expected letters"),
        ("secrets: {mine: {key: MY KEY}}", "secrets.mine.key: expected the name of a variable"),
        ("secret_files: {My_Secret: /var/mine}", "secret_files.My_Secret: expected a name of small letters"),
        ("env: {1ST: one}", "env.1ST: expected the name of a variable"),
        ("volumes: [{claim: UPPER_case, path: /data}]", "volumes.0.claim: expected a name of small letters"),
        ("volumes: [{claim: a, path: '/a:b'}]", "volumes.0.path: expected an absolute path"),
        ("volumes: [{claim: a, path: /}]", "volumes.0.path: expected an absolute path"),
        ("volumes: [{claim: a, path: /tmp/}]", "something else is at /tmp/ in the pod"),
        ("{shm: 1Gi, volumes: [{claim: a, path: /dev/shm}]}", "something else is at /dev/shm in the pod"),
        ("{volumes: [{claim: a, path: /data}], secret_files: {b: /data}}", "something else is at /data in the pod"),
        ("image_pull_secrets: [My_Registry]", "image_pull_secrets.0: expected a name of small letters"),
        ("service_account: a b", "service_account: expected a name of small letters"),
        ("{storage_class: Fast, ephemeral_storage: 1Gi}", "storage_class: expected a name of small letters"),
        ("storage_class: fast", "storage_class: expected ephemeral_storage with it"),
        (
            "{steps: {train: {storage_class: fast}, validate: {ephemeral_storage: 1Gi}}}",
            "steps.train.storage_class: expected ephemeral_storage with it",
        ),
        ("accelerators: -1", "accelerators: Input should be greater than or equal to 0, found -1"),
        ("vertex_accelerator: H100", "vertex_accelerator: Input should be"),
        ("volumes: [{claim: a, path: data}]", "volumes.0.path: expected an absolute path"),
        ("tolerations: [{operator: Is}]", "tolerations.0.operator"),
        ("- 1", "is no mapping of fields"),
        ("a: [", "cannot read"),
        ("labels: 3", "labels: Input should be a valid dictionary, found 3"),
    ],
)
def test_mistakes_are_named(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_cluster(path)
    assert says in caught.value.message and str(path) in caught.value.message
    assert caught.value.message.count(says) == 1
