"""What the steps get of a cluster: resources, places, secrets, from one small YAML file (`examples/cluster.yaml`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from headrace import images
from headrace.errors import InputError
from headrace.options.parse import FALSE, TRUE
from headrace.stream.addresses import secret_in
from headrace_pipelines.syntax import (
    SHM,
    TMP,
    Bytes,
    Cpu,
    Folder,
    Key,
    LabelValue,
    Name,
    SecretKey,
    Variable,
    clash,
)  # fmt: skip

STEPS = ("validate", "train", "evaluate")
KFP, VERTEX = TARGETS = ("kfp", "vertex")
VertexAccelerator = Literal[
    "NVIDIA_TESLA_P100", "NVIDIA_TESLA_V100", "NVIDIA_TESLA_P4", "NVIDIA_TESLA_T4", "NVIDIA_TESLA_A100",
    "NVIDIA_A100_80GB", "NVIDIA_L4", "NVIDIA_H100_80GB", "NVIDIA_H100_MEGA_80GB", "NVIDIA_H200_141GB", "NVIDIA_B200",
]  # fmt: skip
"""AcceleratorType of Vertex AI's API, those that torch runs on."""


_CREDENTIAL = re.compile(
    r"(^|_)(TOKEN|KEY|APIKEY|SECRET)$|PASSWORD$|PASSWD$|PASSPHRASE$|ACCESS_KEY_ID$|CONNECTION_STRING$",
    re.IGNORECASE,
)
"""What names of variables with credentials end in; those of files with them end in _FILE, _PATH, CREDENTIALS."""
_WHY = (
    "and env lies in the package for everyone to read: put it into a Kubernetes secret, and name that with "
    "`secrets: {SECRET: {KEY: NAME}}`"
)


class _Model(BaseModel):
    # Numbers are what people write for CPUs and node labels; Kubernetes takes text.
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Toleration(_Model):
    """A taint that a step may run in spite of; the fields of Kubernetes."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] | None = None
    value: str | None = None
    effect: Literal["NoExecute", "NoSchedule", "PreferNoSchedule"] | None = None
    toleration_seconds: int | None = Field(None, ge=0)


class Volume(_Model):
    """A PersistentVolumeClaim that is there already, and the folder it appears as."""

    claim: Name
    path: Folder


class Pod(_Model):
    """What one step's pod gets. Quantities are Kubernetes' own: `2`, `500m`; `8Gi`, `500M`.

    secrets: {Kubernetes secret: {key in it: environment variable}}; secret_files: {Kubernetes secret: folder that its
    keys are files in}. A secret that is not there is left out, so that who needs none makes none.
    """

    cpu: Cpu
    memory: Bytes
    ephemeral_storage: Bytes | None = None
    storage_class: Name | None = None
    accelerator: Key = "nvidia.com/gpu"
    vertex_accelerator: VertexAccelerator = "NVIDIA_L4"
    accelerators: int = Field(0, ge=0)
    shm: Bytes | None = None
    node_selector: dict[Key, LabelValue] = {}
    tolerations: list[Toleration] = []
    image_pull_secrets: list[Name] = []
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    labels: dict[Key, LabelValue] = {}
    annotations: dict[Key, str] = {}
    secrets: dict[Name, dict[SecretKey, Variable]] = {}
    secret_files: dict[Name, Folder] = {}
    volumes: list[Volume] = []
    env: dict[Variable, str] = {}
    service_account: Name | None = None
    runtime: Name = "torch-distributed"
    timeout_s: int | None = Field(None, gt=0)
    retries: int = Field(0, ge=0)

    @field_validator("env", mode="before")
    @classmethod
    def _is_not_secret(cls, env: Any) -> Any:
        for name, value in env.items() if isinstance(env, dict) else ():
            text = str(value)
            # A switch such as HF_HUB_DISABLE_IMPLICIT_TOKEN: 1 gives nothing away.
            if _CREDENTIAL.search(str(name)) and text.lower() not in ("", *TRUE, *FALSE):
                raise PydanticCustomError("secret", "{name} names a credential, {why}", {"name": name, "why": _WHY})
            if (found := secret_in(text)) is not None:
                raise PydanticCustomError(
                    "secret", "{name} has an address with {found}, {why}", {"name": name, "found": found, "why": _WHY}
                )
        return env

    @model_validator(mode="after")
    def _each_folder_once(self) -> Self:
        # /tmp also without ephemeral_storage: a claim there would be shared scratch of all steps.
        folders = [*(volume.path for volume in self.volumes), *self.secret_files.values()]
        twice = clash(folders, {TMP, *({SHM} if self.shm else ())})
        if twice is not None:
            raise PydanticCustomError(
                "kubernetes", "something else is at {twice} in the pod: expected another folder", {"twice": twice}
            )
        return self


Cluster = Mapping[str, Pod]
"""The pod of each step, by its name."""
_HF, _WANDB = {"headrace-hf": {"HF_TOKEN": "HF_TOKEN"}}, {"headrace-wandb": {"WANDB_API_KEY": "WANDB_API_KEY"}}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "validate": {"cpu": "2", "memory": "4Gi", "retries": 2, "secrets": _HF},
    "train": {
        "cpu": "4",
        "memory": "16Gi",
        "accelerators": 1,
        "shm": "8Gi",
        "retries": 3,
        "secrets": {**_HF, **_WANDB},
    },
    "evaluate": {"cpu": "4", "memory": "16Gi", "accelerators": 1, "retries": 2, "secrets": {**_HF, **_WANDB}},
}
"""Without a file. Training gets more tries than a preemptible node usually takes from it in a row."""
_LAUNCHER = {"cpu": "500m", "memory": "2Gi", "accelerators": 0, "shm": None, "ephemeral_storage": None}


def default_cluster() -> Cluster:
    """What the steps get without a file."""
    return {step: Pod.model_validate(DEFAULTS[step]) for step in STEPS}


def read_cluster(path: str | Path) -> Cluster:
    """The pods that a file describes; InputError naming each field that is wrong.

    Fields at the top are for all steps, those below `steps` for one; mappings are merged, the rest replaced.
    """
    try:
        found = yaml.safe_load(Path(path).read_text("utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot read {path}: {error}", "check --cluster") from error
    if not isinstance(found, dict) or not isinstance(found.get("steps"), dict | None):
        raise InputError(f"{path} is no mapping of fields", "examples/cluster.yaml shows how one looks")
    common, steps = {k: v for k, v in found.items() if k != "steps"}, found.get("steps") or {}
    problems = [f"steps.{name}: there are {', '.join(STEPS)}" for name in steps if name not in STEPS]
    problems += [
        f"steps.{name}: expected a mapping of fields, found {fields!r}"
        for name, fields in steps.items()
        if name in STEPS and not isinstance(fields, dict | None)
    ]
    steps = {name: fields for name, fields in steps.items() if isinstance(fields, dict)}
    pods = {}
    for step in STEPS:
        try:
            pods[step] = Pod.model_validate(_merged(DEFAULTS[step], common, steps.get(step, {})))
        except ValidationError as error:
            problems += [_said(e, f"steps.{step}." if set(e["loc"][:1]) - set(common) else "") for e in error.errors()]
    problems = problems or _unused(common, steps, pods)
    if problems:
        raise InputError(f"{path}: {'; '.join(dict.fromkeys(problems))}", "examples/cluster.yaml has every field")
    return pods


def _merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            both = isinstance(value, dict) and isinstance(merged.get(name), Mapping)
            merged[name] = {**merged[name], **value} if both else value
    return merged


def _said(error: Any, place: str) -> str:
    found = "" if isinstance(error["input"], dict) else f", found {error['input']!r}"
    where = ".".join(str(part) for part in error["loc"] if part != "[key]")
    return (f"{place}{where}: " if where else "") + f"{error['msg']}{found}"


def _unused(common: Mapping[str, Any], steps: Mapping[str, Any], pods: Cluster) -> list[str]:
    """What would be left out without a word: a class of storage where nothing is stored."""
    said = {f"steps.{step}.": [step] for step in pods if steps.get(step, {}).get("storage_class")}
    if common.get("storage_class"):
        said[""] = list(pods)
    return [
        f"{place}storage_class: expected ephemeral_storage with it, which says how much"
        for place, those in said.items()
        if not any(pods[step].ephemeral_storage for step in those)
    ]


def launcher(pod: Pod, place: Pod | None = None) -> Pod:
    """What a task needs that only looks or waits, in the place of a step's pod: as little as it takes.

    place: whose node selector and tolerations it gets, so that it keeps no room on a node with GPUs.
    """
    where = place or pod
    return pod.model_copy(update={**_LAUNCHER, "node_selector": where.node_selector, "tolerations": where.tolerations})


def pods(pod: Pod) -> dict[str, Any]:
    """What each node of a TrainJob gets, as the train component takes it: what `Pod` says of the step's own."""
    left_out = {"vertex_accelerator", "storage_class", "retries", "image_pull_policy"}
    return {**pod.model_dump(exclude_none=True, exclude=left_out), "image": images.image("train")}


def equip(task: Any, pod: Pod, target: str) -> None:
    """Give a kfp task what its pod shall have. On Vertex, which knows no Kubernetes, that is the resources alone."""
    task.set_cpu_request(pod.cpu).set_cpu_limit(pod.cpu).set_memory_request(pod.memory).set_memory_limit(pod.memory)
    if pod.accelerators:
        task.set_accelerator_type(pod.vertex_accelerator if target == VERTEX else pod.accelerator)
        task.set_accelerator_limit(pod.accelerators)
    if pod.retries:
        task.set_retry(pod.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
    for name, value in pod.env.items():
        task.set_env_variable(name, value)
    if target == KFP:
        _equip_kubernetes(task, pod)


def _equip_kubernetes(task: Any, pod: Pod) -> None:
    from kfp import kubernetes

    for secret, keys in pod.secrets.items():
        kubernetes.use_secret_as_env(task, secret, keys, optional=True)
    for secret, folder in pod.secret_files.items():
        kubernetes.use_secret_as_volume(task, secret, folder, optional=True)
    for volume in pod.volumes:
        kubernetes.mount_pvc(task, volume.claim, volume.path)
    if pod.shm:
        kubernetes.empty_dir_mount(task, "shm", SHM, medium="Memory", size_limit=pod.shm)
    if pod.ephemeral_storage and pod.storage_class:
        kubernetes.add_ephemeral_volume(
            task, "scratch", TMP, ["ReadWriteOnce"], pod.ephemeral_storage, storage_class_name=pod.storage_class
        )
    elif pod.ephemeral_storage:
        kubernetes.empty_dir_mount(task, "scratch", TMP, size_limit=pod.ephemeral_storage)
    for key, value in pod.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in pod.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump())
    if pod.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, pod.image_pull_secrets)
    if pod.image_pull_policy:
        kubernetes.set_image_pull_policy(task, pod.image_pull_policy)
    for key, value in pod.labels.items():
        kubernetes.add_pod_label(task, key, value)
    for key, value in pod.annotations.items():
        kubernetes.add_pod_annotation(task, key, value)
    if pod.timeout_s:
        kubernetes.set_timeout(task, pod.timeout_s)
