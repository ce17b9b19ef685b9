"""A small Weights & Biases server: keeps what clients send of runs, tells a resuming one how far its run is.

It answers what wandb 0.31's own process asks while a run is made, resumed, logged to and ended, but takes no
artifacts; and it can refuse on request.
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


class WandbServer(Listener):
    """Keeps `runs` by id. trouble: called with the name of every request; a status to answer with, or None."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.runs: dict[str, ServedRun] = {}
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
        return {}

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
        operation = asked.get("operationName") or path
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
                self._send({})

    def _send(self, value: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
