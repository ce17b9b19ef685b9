"""A small Weights & Biases server: keeps what clients send of runs, tells a resuming one how far its run is.

It answers what wandb 0.31's own process asks while a run is made, resumed, logged to and ended, and while artifacts
such as tables are uploaded; and it can refuse on request.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.servers.listening import Handler, Listener

HISTORY, SUMMARY = "wandb-history.jsonl", "wandb-summary.json"
_OPERATION = re.compile(r"\s*(?:query|mutation)\s+(\w+)")
_STREAM = re.compile(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream")


@dataclass
class ServedRun:
    """A run as the server has it. history: a row a line; complete: whether its client said that it has ended."""

    id: str
    project: str = ""
    name: str = ""
    job_type: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    complete: bool = False
    exit_code: int | None = None
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def steps(self) -> list[int]:
        """The step of each row."""
        return [row["_step"] for row in self.history]


@dataclass
class ServedArtifact:
    """A version of an artifact. files: by path, its manifest among them; committed: whether it arrived whole."""

    name: str
    type: str
    digest: str
    committed: bool = False
    files: dict[str, bytes] = field(default_factory=dict)


class WandbServer(Listener):
    """Keeps `runs` by id, `artifacts` as they came.

    trouble: called with the name of every request; a status to answer with, or None.
    """

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.runs: dict[str, ServedRun] = {}
        self.artifacts: list[ServedArtifact] = []
        self.trouble: Callable[[str], int | None] = lambda _: None
        self.lock = threading.Lock()
        self.asked: list[str] = []

    def graphql(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data that answers a query or mutation; empty for those that clients can do without."""
        match operation:
            case "Viewer":
                flags = json.dumps({"code_saving_enabled": False})
                teams: dict[str, Any] = {"edges": []}
                viewer = {"id": "1", "entity": "team", "username": "team", "email": "", "flags": flags, "teams": teams}
                return {"viewer": viewer}
            case "ServerFeaturesQuery":
                return {"serverInfo": {"features": []}}
            case "RunResumeStatus":
                return {"model": self._status(self.runs.get(variables["name"]))}
            case "UpsertBucket":
                return {"upsertBucket": self._upsert(variables)}
            case "CreateRunFiles":
                place = f"{self.url}/storage/{variables['run']}"
                files = [{"name": name, "uploadUrl": f"{place}/{name}"} for name in variables["files"]]
                return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}
            case "MarkRunFilesUploaded":
                return {"markRunFilesUploaded": {"success": True}}
        return self._artifact(operation, variables)

    def _artifact(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        match operation:
            case "ArtifactType":
                return {"project": None}
            case "CreateArtifact":
                new = asked["input"]
                name, kind, digest = new["artifactCollectionName"], new["artifactTypeName"], new["digest"]
                # What is there already is not uploaded again, as on W&B's own server.
                same = [a.committed and (a.name, a.digest) == (name, digest) for a in self.artifacts]
                at = same.index(True) if any(same) else len(self.artifacts)
                if not any(same):
                    self.artifacts.append(ServedArtifact(name, kind, digest))
                state = "COMMITTED" if any(same) else "PENDING"
                made = {"id": str(at), "state": state, "artifactSequence": {"latestArtifact": None}}
                return {"createArtifact": {"artifact": made}}
            case "CreateArtifactManifest":
                file = {"id": "4", **self._upload(asked["artifactID"], asked["name"])}
                return {"createArtifactManifest": {"artifactManifest": {"id": "5", "file": file}}}
            case "CreateArtifactFiles":
                nodes = [
                    {
                        **self._upload(file["artifactID"], file["name"]), "storagePath": file["name"],
                        "uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]},
                    }
                    for file in asked["input"]["artifactFiles"]
                ]  # fmt: skip
                return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
            case "CommitArtifact":
                artifact = self.artifacts[int(asked["artifactID"])]
                artifact.committed = True
                return {"commitArtifact": {"artifact": {"id": asked["artifactID"], "digest": artifact.digest}}}
            case "ArtifactByID":
                return {"artifact": self._described(asked["id"])}
        return {}

    def _upload(self, artifact: str, name: str) -> dict[str, Any]:
        return {"uploadUrl": f"{self.url}/artifacts/{artifact}/{name}", "uploadHeaders": []}

    def _described(self, id: str) -> dict[str, Any]:
        artifact = self.artifacts[int(id)]
        return {
            "__typename": "Artifact", "id": id, "versionIndex": 0, "artifactType": {"name": artifact.type},
            "artifactSequence": {"__typename": "ArtifactSequence", "name": artifact.name, "project": None},
            "description": None, "metadata": None, "ttlDurationSeconds": 0, "ttlIsInherited": True, "tags": [],
            "historyStep": None, "state": "COMMITTED", "size": 0, "digest": artifact.digest, "commitHash": None,
            "fileCount": 1, "createdAt": "", "updatedAt": None, "aliases": [],
        }  # fmt: skip

    def _status(self, run: ServedRun | None) -> dict[str, Any]:
        model = {"id": "2", "name": "project", "entity": {"id": "3", "name": "team"}, "bucket": None}
        if run is None:
            return model
        tail = json.dumps([json.dumps(row) for row in run.history[-1:]])
        return model | {
            "bucket": {
                "id": run.id, "name": run.id, "displayName": run.name, "summaryMetrics": json.dumps(run.summary),
                "logLineCount": 0, "historyLineCount": len(run.history), "eventsLineCount": 0, "historyTail": tail,
                "eventsTail": "[]", "config": json.dumps(run.config), "tags": [], "notes": None,
                "wandbConfig": json.dumps({"t": 1}),
            }
        }  # fmt: skip

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        new = variables["name"] not in self.runs
        run = self.runs.setdefault(variables["name"], ServedRun(variables["name"]))
        run.project = variables.get("project") or run.project
        run.name = variables.get("displayName") or run.name
        run.job_type = variables.get("jobType") or run.job_type
        run.config |= json.loads(variables.get("config") or "{}")
        project = {"id": "2", "name": run.project, "entity": {"id": "3", "name": "team"}}
        bucket = {
            "id": run.id, "name": run.id, "displayName": run.name, "description": "", "config": json.dumps(run.config),
            "sweepName": None, "project": project, "historyLineCount": len(run.history),
        }  # fmt: skip
        return {"bucket": bucket, "inserted": new}

    def stream(self, run: ServedRun, sent: dict[str, Any]) -> None:
        """Take a piece of a run: lines from an offset on replace what was there."""
        for name, part in (sent.get("files") or {}).items():
            lines = [json.loads(line) for line in part["content"]]
            if name == HISTORY:
                run.history[part["offset"] : part["offset"] + len(lines)] = lines
            elif name == SUMMARY:
                run.summary = lines[-1]
        if sent.get("complete"):
            run.complete, run.exit_code = True, sent.get("exitcode")


class _Handler(Handler):
    owner: WandbServer

    def answer(self) -> None:
        body = self.body()
        path = self.path.partition("?")[0]
        asked = json.loads(body) if path == "/graphql" else {}
        named = _OPERATION.match(asked.get("query") or "")
        operation = named[1] if named else path
        self.owner.asked.append(operation)
        status = self.owner.trouble(operation)
        if status is not None:
            self._send({"errors": [{"message": "there is trouble"}]}, status)
            return
        stream = _STREAM.fullmatch(path)
        with self.owner.lock:
            if path == "/graphql":
                self._send({"data": self.owner.graphql(operation, asked.get("variables") or {})})
            elif stream:
                self.owner.stream(self.owner.runs[stream[3]], json.loads(body))
                self._send({})
            else:
                if path.startswith("/storage/"):
                    _, _, run, name = path.split("/", 3)
                    self.owner.runs[run].files[name] = body
                elif path.startswith("/artifacts/"):
                    _, _, artifact, name = path.split("/", 3)
                    self.owner.artifacts[int(artifact)].files[name] = body
                self._send({})

    def _send(self, value: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
