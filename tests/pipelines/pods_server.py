"""A Kubernetes API of the test's own: the pods of a run and their logs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.servers.listening import Handler, Listener

NODE = "workflows.argoproj.io/node-name"


@dataclass
class FakePod:
    """A pod. lines: its log. cut: after how many lines the connection of the first reading is reset."""

    name: str
    node: str
    run_id: str
    created: str
    lines: Sequence[str] = ()
    phase: str = "Succeeded"
    cut: int | None = None


class PodsServer(Listener):
    """Serves pods, and TrainJobs (run id by name), from `with` on.

    status: what the first `refusals` requests are refused with; 0 for none.
    """

    def __init__(
        self, namespace: str, pods: Sequence[FakePod], status: int = 0, refusals: int = 99,
        train_jobs: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(_Handler)
        self.namespace, self.pods, self.status = namespace, list(pods), status
        self.refusals = refusals
        self.train_jobs = dict(train_jobs or {})
        self.read: list[dict[str, list[str]]] = []

    def kubeconfig(self, path: Path) -> str:
        """Writes a kubeconfig for this server; its path."""
        cluster = {"name": "c", "cluster": {"server": self.url}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        user = {"name": "u", "user": {"token": "t"}}
        kind = {"apiVersion": "v1", "kind": "Config", "current-context": "x"}
        path.write_text(yaml.safe_dump({**kind, "clusters": [cluster], "contexts": [context], "users": [user]}))
        return str(path)


class _Handler(Handler):
    owner: PodsServer

    def answer(self) -> None:
        owner, parts = self.owner, urlsplit(self.path)
        query, base = parse_qs(parts.query), f"/api/v1/namespaces/{self.owner.namespace}/pods"
        jobs = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{owner.namespace}/trainjobs"
        name = parts.path.removeprefix(base).strip("/").removesuffix("/log")
        pod = next((p for p in owner.pods if p.name == name), None)
        if owner.status and owner.refusals > 0:
            owner.refusals -= 1
            self._send(owner.status, b'{"message": "no"}')
        elif parts.path == base:
            label, _, run_id = query["labelSelector"][0].partition("=")
            assert label == "pipeline/runid"
            items = [_item(p) for p in owner.pods if p.run_id == run_id]
            self._send(200, json.dumps({"kind": "PodList", "apiVersion": "v1", "items": items}).encode())
        elif parts.path == jobs:
            label, _, run_id = query["labelSelector"][0].partition("=")
            assert label == "headrace.run"
            items = [{"metadata": {"name": n}} for n, of in owner.train_jobs.items() if of == run_id]
            self._send(200, json.dumps({"kind": "TrainJobList", "items": items}).encode())
        elif parts.path.startswith(f"{jobs}/") and self.command == "DELETE":
            del owner.train_jobs[parts.path.removeprefix(f"{jobs}/")]
            self._send(200, b'{"kind": "Status", "status": "Success"}')
        elif pod is not None and parts.path == f"{base}/{name}/log":
            owner.read.append(query)
            self._log(pod)
        else:
            self._send(404, b'{"message": "not found"}')

    def _log(self, pod: FakePod) -> None:
        lines = [f"2026-03-01T00:00:{n:02d}.000000001Z {line}\n".encode() for n, line in enumerate(pod.lines)]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines[: pod.cut]:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()
        if pod.cut is not None:
            pod.cut = None
            self.owner.reset_when_closed(self.connection)
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _item(pod: FakePod) -> dict[str, object]:
    return {
        "metadata": {"name": pod.name, "creationTimestamp": pod.created, "annotations": {NODE: pod.node}},
        "spec": {"containers": [{"name": "main"}]},
        "status": {"phase": pod.phase},
    }
