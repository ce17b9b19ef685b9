"""A Kubeflow Pipelines back end of the test's own: the calls that kfp's client makes to start and follow a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.pipelines.contract import Contract
from tests.servers.listening import Handler, Listener

API = "/apis/v2beta1"


class Request(NamedTuple):
    """A request as it arrived. body: None where none was sent."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: Any


class KfpServer(Listener):
    """Serves the API from `with` on. Every request and reply is held against the official swagger, where it is there.

    states: what a run is in, one a look at it, the last one ever after. failures: statuses to answer the next requests
    for runs with (0: the connection is reset), then it serves again.
    """

    def __init__(self, states: Sequence[str] = ("SUCCEEDED",), failures: Sequence[int] = ()) -> None:
        super().__init__(_Handler)
        self.states, self.failures = list(states), list(failures)
        self.contract = Contract()
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.experiments: list[dict[str, Any]] = []
        self.runs: dict[str, dict[str, Any]] = {}

    def calls(self) -> list[str]:
        """`METHOD path`, in order, without the API's prefix."""
        return [f"{r.method} {r.path.removeprefix(API)}" for r in self.requests]

    def reply(self, request: Request) -> tuple[int, Any]:
        """Status and body of the answer."""
        match request.method, request.path.removeprefix(API).strip("/").split("/"):
            case "GET", ["healthz"]:
                return 200, {"multi_user": False}
            case "GET", ["experiments"]:
                wanted = json.loads(request.query["filter"][0])["predicates"][0]["stringValue"]
                return 200, {"experiments": [e for e in self.experiments if e["display_name"] == wanted]}
            case "POST", ["experiments"]:
                made = {**request.body, "experiment_id": f"experiment-{len(self.experiments) + 1}"}
                self.experiments.append(made)
                return 200, made
            case "POST", ["runs"]:
                run_id = f"run-{len(self.runs) + 1}"
                self.runs[run_id] = request.body
                return 200, {"run_id": run_id, "display_name": request.body["display_name"], "state": "PENDING"}
            case "GET", ["runs", run_id] if run_id in self.runs:
                state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
                return 200, {"run_id": run_id, "state": state}
        return 404, {"message": f"{request.path} was not found", "code": 5}


class _Handler(Handler):
    owner: KfpServer

    def answer(self) -> None:
        owner, parts, raw = self.owner, urlsplit(self.path), self.body()
        request = Request(self.command, parts.path, parse_qs(parts.query), json.loads(raw) if raw else None)
        owner.requests.append(request)
        owner.violations += owner.contract.request(request.method, request.path, parts.query, request.body)
        if owner.failures and request.path.startswith(f"{API}/runs"):
            status, value = owner.failures.pop(0), {"message": "the database is away"}
            if status == 0:
                owner.reset_when_closed(self.connection)
                self.close_connection = True
                return
        else:
            status, value = owner.reply(request)
            if status == 200:
                owner.violations += owner.contract.reply(request.method, request.path, value)
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
