"""A Kubernetes API of the test's own: what the Kubeflow SDK asks of it to make and follow a TrainJob."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.servers.listening import Handler, Listener

CRD = Path(__file__).parents[3] / "shared" / "contracts" / "trainer.kubeflow.org_trainjobs.yaml"
GROUP, NAMESPACE, RUNTIME = "trainer.kubeflow.org", "team-a", "torch-distributed"
TRAINJOBS = f"/apis/{GROUP}/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_KINDS: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
_VERBS = {"POST": "create", "GET": "get", "PATCH": "patch", "DELETE": "delete"}


class Right(NamedTuple):
    """What a request needs in a Role (or, without a namespace, in a ClusterRole)."""

    group: str
    resource: str
    verb: str
    namespaced: bool


class TrainJobs(Listener):
    """Serves the API from `with` on.

    state: what a TrainJob is in, asked at each look at it: "", Running, Complete or Failed. started: called with each
    that was made. failures: statuses to answer the next requests for TrainJobs with (0: the connection is reset).
    """

    def __init__(
        self,
        state: Callable[[str], str] = lambda name: "Complete",
        started: Callable[[dict[str, Any]], None] = lambda job: None,
        failures: tuple[int, ...] = (),
    ) -> None:
        super().__init__(_Handler)
        self.state, self.started, self.failures = state, started, list(failures)
        self.schema = schema()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.made: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.violations: list[str] = []
        self.rights: set[Right] = set()
        self.log: Callable[[], Iterator[str]] = lambda: iter(["a line of node 0"])
        self.terminating_s = 0.0
        """How long a deleted TrainJob is still there."""
        self.pod_owners: list[dict[str, Any]] = []

    def kubeconfig(self, folder: Path) -> str:
        """A file that leads clients here."""
        path = folder / "kubeconfig"
        context = {"cluster": "here", "user": "me", "namespace": NAMESPACE}
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": "t"}}], "contexts": [{"name": "here", "context": context}],
        }  # fmt: skip
        path.write_text(yaml.safe_dump(config))
        return str(path)

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Any) -> tuple[int, Any]:
        """Status and body."""
        self._note(method, path, query)
        if path.startswith(TRAINJOBS):
            if self.failures:
                return self.failures.pop(0), status("the API is away")
            return self._trainjob(method, path.removeprefix(TRAINJOBS).strip("/"), body)
        if path == f"/apis/{GROUP}/v1alpha1/clustertrainingruntimes/{RUNTIME}":
            return 200, runtime()
        if path == PODS:
            name = query["labelSelector"][0].split(",")[0].removeprefix("jobset.sigs.k8s.io/jobset-name=")
            return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self._pods(name)}
        if path == f"{PODS}/step-pod":
            metadata = {"name": "step-pod", "ownerReferences": self.pod_owners}
            return 200, {"kind": "Pod", "apiVersion": "v1", "metadata": metadata}
        return 404, status(f"{path} was not found")

    def _note(self, method: str, path: str, query: Mapping[str, list[str]]) -> None:
        parts = path.strip("/").split("/")
        group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
        namespaced = rest[0] == "namespaces"
        resource, *name = rest[2:] if namespaced else rest
        if resource == "configmaps":  # Trainer's own, which it lets everyone read
            return
        verb = "list" if method == "GET" and not name else _VERBS[method]
        self.rights.add(Right(group, "/".join([resource, *name[1:]]), verb, namespaced))

    def _trainjob(self, method: str, name: str, body: Any) -> tuple[int, Any]:
        self.jobs = {n: j for n, j in self.jobs.items() if j.get("gone_at", time.monotonic() + 1) > time.monotonic()}
        if method == "POST":
            name = body["metadata"]["name"]
            if name in self.jobs:
                return 409, status(f'trainjobs.{GROUP} "{name}" already exists')
            problems = wrong(self.schema, body, "TrainJob") + webhook(body)
            self.violations += problems
            if problems:
                return 422, status("; ".join(problems))
            made = {"namespace": NAMESPACE, "uid": name, "creationTimestamp": datetime.now(UTC).isoformat()}
            self.jobs[name] = {"body": {**body, "metadata": {**body["metadata"], **made}}}
            self.made.append(body)
            self.started(body)
            return 201, self.jobs[name]["body"]
        if name not in self.jobs:
            return 404, status(f'trainjobs.{GROUP} "{name}" not found')
        job = self.jobs[name]
        if method == "DELETE":
            self.deleted.append(name)
            job["gone_at"] = time.monotonic() + self.terminating_s
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        if method == "PATCH":
            job["body"]["metadata"].update(body["metadata"])
        state = self.state(name)
        ended = state in ("Complete", "Failed")
        condition = {"type": state, "status": "True", "reason": "Ended", "message": "", "lastTransitionTime": now()}
        return 200, {**job["body"], **({"status": {"conditions": [condition]}} if ended else {})}

    def _pods(self, name: str) -> list[dict[str, Any]]:
        if name not in self.jobs:
            return []
        phase = {"": "Pending", "Running": "Running", "Complete": "Succeeded", "Failed": "Failed"}[self.state(name)]
        trainer = self.jobs[name]["body"]["spec"]["trainer"]
        labels = {"jobset.sigs.k8s.io/jobset-name": name, "jobset.sigs.k8s.io/replicatedjob-name": "node"}
        return [
            {
                "metadata": {
                    "name": f"{name}-node-0-{i}", "namespace": NAMESPACE, "creationTimestamp": now(),
                    "labels": {**labels, "batch.kubernetes.io/job-completion-index": str(i)},
                },
                "spec": {"containers": [{"name": "node", "image": trainer["image"]}]}, "status": {"phase": phase},
            }
            for i in range(trainer["numNodes"])
        ]  # fmt: skip


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def status(message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message}


def runtime() -> dict[str, Any]:
    """Trainer's own torch-distributed, as it is installed with it."""
    pod = {"spec": {"containers": [{"name": "node", "image": "pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime"}]}}
    labels = {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    job = {"name": "node", "template": {"metadata": {"labels": labels}, "spec": {"template": pod}}}
    return {
        "apiVersion": f"{GROUP}/v1alpha1", "kind": "ClusterTrainingRuntime",
        "metadata": {"name": RUNTIME, "labels": {"trainer.kubeflow.org/framework": "torch"}},
        "spec": {"mlPolicy": {"numNodes": 1, "torch": {}}, "template": {"spec": {"replicatedJobs": [job]}}},
    }  # fmt: skip


def schema() -> dict[str, Any]:
    """The TrainJob's schema from its CRD, or from the SDK's own classes where that file is not beside the checkout."""
    if CRD.is_file():
        found: dict[str, Any] = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        # As for every kind, the API knows more of the metadata than the CRD says.
        found["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        return found
    from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

    return {"class": TrainerV1alpha1TrainJob}


def wrong(schema: Mapping[str, Any], value: Any, place: str) -> list[str]:
    """What does not fit; unknown fields too, which a cluster would drop without a word."""
    if "class" in schema:
        again = schema["class"].from_dict(value).to_dict()
        return [] if again == value else [f"{place} has fields that the SDK's class does not know"]
    if schema.get("x-kubernetes-int-or-string"):
        fits = isinstance(value, int) or (isinstance(value, str) and re.search(schema.get("pattern", ""), value))
        return [] if fits else [f"{place} is {value!r}, expected a quantity"]
    kind = schema.get("type")
    if kind is not None and (not isinstance(value, _KINDS[kind]) or (kind == "integer" and isinstance(value, bool))):
        return [f"{place} is {type(value).__name__}, expected {kind}"]
    if kind == "array":
        keys = schema.get("x-kubernetes-list-map-keys", ())
        named = [tuple(item.get(key) for key in keys) for item in value]
        found = [f"{place} has two entries of one name"] if keys and len(set(named)) < len(named) else []
        return found + [p for i, v in enumerate(value) for p in wrong(schema["items"], v, f"{place}[{i}]")]
    if kind == "object":
        return _wrong_object(schema, value, place)
    fits = value in schema.get("enum", [value]) and len(str(value)) <= schema.get("maxLength", 1 << 30)
    fits = fits and (kind != "string" or re.search(schema.get("pattern", ""), value) is not None)
    return (
        [] if fits and not (kind == "integer" and value < schema.get("minimum", value)) else [f"{place} is {value!r}"]
    )


def _wrong_object(schema: Mapping[str, Any], value: Mapping[str, Any], place: str) -> list[str]:
    found = [f"{place} lacks {name}" for name in schema.get("required", ()) if name not in value]
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, item in value.items():
        if name in properties or isinstance(others, dict):
            found += wrong(properties.get(name, others), item, f"{place}.{name}")
        elif not (schema.get("x-kubernetes-preserve-unknown-fields") or others is True):
            found.append(f"{place} has an unknown field {name}")
    return found


def webhook(job: Mapping[str, Any]) -> list[str]:
    """What Trainer refuses beyond the schema: names, PET_ variables, and variables of `node` in a patch."""
    found = []
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", job["metadata"]["name"]):
        found.append("metadata.name must match RFC 1035 DNS label format")
    if any(env["name"].startswith("PET_") for env in job["spec"]["trainer"].get("env", [])):
        found.append("spec.trainer.env must not have reserved envs")
    for patch in job["spec"].get("runtimePatches", []):
        for rjob in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            pod = rjob["template"]["spec"]["template"].get("spec", {})
            if rjob["name"] != "node":
                found.append("runtimePatches must not have replicated job that doesn't exist in the runtime")
            if any(c["name"] != "node" or c.get("env") for c in pod.get("containers", [])):
                found.append("runtimePatches must not have envs, or unknown containers")
            volumes = {v["name"] for v in pod.get("volumes", [])}
            mounts = {m["name"] for c in pod.get("containers", []) for m in c.get("volumeMounts", [])}
            if mounts != volumes:
                found.append(f"mounts {mounts} of volumes {volumes}")
    return found


class _Handler(Handler):
    owner: TrainJobs

    def answer(self) -> None:
        parts, raw = urlsplit(self.path), self.body()
        if parts.path.endswith("/log"):
            self._log(parts.path)
            return
        code, value = self.owner.answer(
            self.command, parts.path, parse_qs(parts.query), json.loads(raw) if raw else None
        )
        if code == 0:
            self.owner.reset_when_closed(self.connection)
            self.close_connection = True
            return
        self._head(code, "application/json")
        body = json.dumps(value).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _head(self, code: int, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)

    def _log(self, path: str) -> None:
        self.owner._note("GET", path, {})
        self._head(200, "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in self.owner.log():
            data = f"{line}\n".encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
