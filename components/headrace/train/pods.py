"""What the pods of a TrainJob get, as the pipeline's `pods` parameter says it, and as the Kubeflow SDK takes it."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from headrace.errors import InputError

if TYPE_CHECKING:
    from kubeflow.trainer.options import RuntimePatch

CONTAINER = JOB = "node"
"""What Kubeflow's runtimes call the container that trains, and the group of pods it is in."""
SECRETS = "/run/headrace/secrets"
"""Below it, `SECRET/NAME` is a file whose content `train/node.py` puts into the environment as NAME."""
BACKENDS = ("kubernetes", "docker")
_KINDS: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
}


@dataclass(frozen=True, kw_only=True)
class Pods:
    """Resources and surroundings of each pod. Quantities are Kubernetes' own: "500m", "64Gi"."""

    cpu: str = ""
    memory: str = ""
    ephemeral_storage: str = ""
    accelerator: str = "nvidia.com/gpu"
    """The resource's name; `accelerators` says how many of it a pod gets."""
    accelerators: int = 0
    shm: str = ""
    """Size of /dev/shm, in memory."""
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[dict[str, Any]] = field(default_factory=list)
    """key, operator, value, effect, toleration_seconds."""
    service_account: str = ""
    image_pull_secrets: list[str] = field(default_factory=list)
    image_pull_policy: str = ""
    """Of docker alone: a TrainJob leaves it to its runtime."""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    """SECRET: {KEY: NAME}: the training finds the key's value in its environment as NAME, if there is one."""
    secret_files: dict[str, str] = field(default_factory=dict)
    """SECRET: folder where its keys are mounted as files, if there is one."""
    volumes: list[dict[str, str]] = field(default_factory=list)
    """claim, path."""
    env: dict[str, str] = field(default_factory=dict)
    image: str = ""
    """Of the pods; by default the one that the step itself runs in."""
    runtime: str = "torch-distributed"
    """A TrainingRuntime of the namespace, or else a ClusterTrainingRuntime."""
    timeout_s: int = 0
    """Seconds after which Kubernetes ends the TrainJob; 0: never."""
    launcher: bool = False
    """Whether the step's own pod trains nothing: one node, too, is a TrainJob."""
    backend: str = "kubernetes"
    """docker: containers of the Docker daemon here in place of pods; they know gs:// alone."""

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Pods:
        """From names and values, of which empty ones were not given; InputError names what does not fit."""
        kinds = {name: typing.get_origin(hint) or hint for name, hint in typing.get_type_hints(cls).items()}
        parsed: dict[str, Any] = {}
        for name, value in values.items():
            if name not in kinds:
                near = difflib.get_close_matches(name, kinds, n=1)
                raise InputError(f"pods has no field {name!r}" + (f" (nearest: {near[0]})" if near else ""), _known())
            if value is None or value == "":
                continue
            kind = kinds[name]
            if kind is int and isinstance(value, float) and value == int(value):
                value = int(value)  # numbers come out of a pipeline as floats
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise InputError(f"pods.{name} is {value!r}; expected {_KINDS[kind]}")
            parsed[name] = value
        pods = cls(**parsed)
        pods._check()
        return pods

    def _check(self) -> None:
        if self.backend not in BACKENDS:
            raise InputError(f"pods.backend is {self.backend!r}; expected one of {', '.join(BACKENDS)}")
        for name in ("accelerators", "timeout_s"):
            if getattr(self, name) < 0:
                raise InputError(f"pods.{name} is {getattr(self, name)}; expected 0 or more")
        for volume in self.volumes:
            if set(volume) != {"claim", "path"} or not volume["path"].startswith("/"):
                raise InputError(f"pods.volumes has {volume}; expected a claim and an absolute path")
        for one in self.tolerations:
            if unknown := set(one) - {"key", "operator", "value", "effect", "toleration_seconds"}:
                raise InputError(f"pods.tolerations has the unknown field {min(unknown)!r}", "see docs/nodes.md")

    def processes(self, asked: int | None) -> int:
        """Processes a pod: as asked, or one an accelerator, or one."""
        return asked or self.accelerators or 1

    def sees(self, folder: str) -> bool:
        """Whether a folder lies on a volume that all pods mount."""
        mounts = (volume["path"].rstrip("/") for volume in self.volumes)
        return any(folder == path or folder.startswith(f"{path}/") for path in mounts)

    def resources(self) -> dict[str, str]:
        """Requests, and limits, of a pod by resource; as text, because the SDK makes 2.0 of the number 2."""
        asked = {
            "cpu": self.cpu, "memory": self.memory, "ephemeral-storage": self.ephemeral_storage,
            self.accelerator: str(self.accelerators or ""),
        }  # fmt: skip
        return {name: amount for name, amount in asked.items() if amount}

    def mounts(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Volumes, and how the container mounts each."""
        found: list[tuple[dict[str, Any], str, bool]] = []
        if self.shm:
            found.append(({"emptyDir": {"medium": "Memory", "sizeLimit": self.shm}}, "/dev/shm", False))
        for secret, keys in self.secrets.items():
            items = [{"key": key, "path": name} for key, name in keys.items()]
            source = {"secret": {"secretName": secret, "optional": True, "items": items}}
            found.append((source, f"{SECRETS}/{secret}", True))
        for secret, path in self.secret_files.items():
            found.append(({"secret": {"secretName": secret, "optional": True}}, path, True))
        for volume in self.volumes:
            found.append(({"persistentVolumeClaim": {"claimName": volume["claim"]}}, volume["path"], False))
        return [
            ({"name": f"headrace-{i}", **source},
             {"name": f"headrace-{i}", "mountPath": path, **({"readOnly": True} if read_only else {})})
            for i, (source, path, read_only) in enumerate(found)
        ]  # fmt: skip

    def patch(self) -> RuntimePatch | None:
        """What the SDK has no argument for, as a patch of the runtime; None when there is nothing of it.

        Trainer refuses environment variables for the training container here, references to secrets among them:
        therefore secrets are mounted.
        """
        from kubeflow.trainer import options as sdk

        mounts = self.mounts()
        container = sdk.ContainerPatch(name=CONTAINER, volume_mounts=[mount for _, mount in mounts])
        spec = sdk.PodSpecPatch(
            service_account_name=self.service_account or None,
            volumes=[volume for volume, _ in mounts],
            containers=[container] if mounts else None,
            image_pull_secrets=[{"name": name} for name in self.image_pull_secrets],
            node_selector=self.node_selector or None,
            tolerations=[_toleration(one) for one in self.tolerations],
        )
        named = {"labels": self.labels, "annotations": self.annotations}
        metadata = {name: values for name, values in named.items() if values} or None
        if metadata is None and not any(getattr(spec, f.name) for f in fields(spec)):
            return None
        pod = sdk.PodTemplatePatch(metadata=metadata, spec=spec)
        job = sdk.ReplicatedJobPatch(name=JOB, template=sdk.JobTemplatePatch(spec=sdk.JobSpecPatch(template=pod)))
        template = sdk.JobSetTemplatePatch(spec=sdk.JobSetSpecPatch(replicated_jobs=[job]))
        return sdk.RuntimePatch(training_runtime_spec=sdk.TrainingRuntimeSpecPatch(template=template))


def _toleration(one: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in one.items() if value is not None}
    seconds = given.pop("toleration_seconds", None)
    return {**given, **({} if seconds is None else {"tolerationSeconds": int(seconds)})}


def _known() -> str:
    return f"its fields are {', '.join(f.name for f in fields(Pods))}"
