"""A Kubeflow Pipelines back end of the test's own: what kfp's client asks to start, follow and schedule runs."""

from __future__ import annotations

import datetime
import email
import itertools
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.pipelines.contract import Contract
from tests.servers.listening import Handler, Listener

API = "/apis/v2beta1"
RESET, STALL, PAGE = 0, -1, -2
"""In place of a status: the connection is reset, nothing is ever answered, or a login page is."""
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
START = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
KEYS = {"display_name", "name", "created_at", "state", "experiment_id", "namespace"}
Answer = tuple[int, Any]


class Request(NamedTuple):
    """A request as it arrived. body: None where none was sent."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: Any
    headers: Mapping[str, str]

    def call(self) -> str:
        """`METHOD path`, without the API's prefix."""
        return f"{self.method} {self.path.removeprefix(API)}"


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose `METHOD path` a pattern matches. acted: after the act.

    spoil: makes the body that is sent from the one that is due, as what `kind` says, "" for no content type.
    """

    on: str
    status: int
    acted: bool = False
    times: int = 1
    spoil: Callable[[bytes], bytes] | None = None
    kind: str = "application/json"


@dataclass
class Look:
    """What a run is at one look at it. more: other fields of the run."""

    state: str
    tasks: Sequence[Mapping[str, Any]] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


class KfpServer(Listener):
    """Serves the API from `with` on. Every request and reply is held against the official swagger, where it is there.

    looks: what a run is, one a look at it, the last one ever after; a run that was cancelled is what `canceled` says.
    headers: what a request must bring, or be refused with 401. `before` is called with each request.
    """

    def __init__(
        self,
        looks: Sequence[Look | str] = ("SUCCEEDED",),
        faults: Sequence[Fault] = (),
        canceled: Sequence[str] = ("CANCELING", "CANCELED"),
        headers: Mapping[str, str] | None = None,
        multi_user: bool = False,
    ) -> None:
        super().__init__(_Handler)
        self.looks = [Look(look) if isinstance(look, str) else look for look in looks]
        self.faults, self.canceled, self.headers = list(faults), list(canceled), dict(headers or {})
        self.multi_user = multi_user
        self.contract = Contract()
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.experiments: dict[str, dict[str, Any]] = {}
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.schedules: dict[str, dict[str, Any]] = {}
        self.uploaded: dict[str, bytes] = {}
        self.ending: set[str] = set()
        self.said = "the database is away"
        self.before: Callable[[Request], None] = lambda request: None
        self.done = threading.Event()
        self._minutes = itertools.count()

    def __exit__(self, *raised: Any) -> None:
        self.done.set()
        super().__exit__(*raised)

    def calls(self, pattern: str = "") -> list[str]:
        """`METHOD path` of the requests, in order, that a pattern matches."""
        return [call for call in (r.call() for r in self.requests) if re.search(pattern, call)]

    def add_run(self, name: str, state: str = "RUNNING", **more: Any) -> str:
        """Id of a run that somebody else started, which stays in its state."""
        return self._put(self.runs, "run_id", {"display_name": name, "state": state, "fixed": True, **more})

    def add_experiment(self, name: str, **more: Any) -> str:
        """Id of an experiment that is there already."""
        return self._put(self.experiments, "experiment_id", {"display_name": name, **more})

    def fault(self, request: Request) -> Fault | None:
        """The fault that is due, if any."""
        for fault in self.faults:
            if fault.times and re.search(fault.on, request.call()):
                fault.times -= 1
                return fault
        return None

    def reply(self, request: Request) -> Answer:
        """Status and body of the answer."""
        if any(request.headers.get(name) != value for name, value in self.headers.items()):
            return 401, {"message": "who is there?", "code": 16}
        kind, *rest = request.path.removeprefix(API).strip("/").split("/")
        verb = ""
        if rest:
            rest[-1], _, verb = rest[-1].partition(":")
        answer = getattr(self, f"_{request.method.lower()}_{kind}", None)
        found = answer(request, rest, verb) if answer is not None else None
        return found or (404, {"message": f"{request.path} was not found", "code": 5})

    def _get_healthz(self, request: Request, rest: list[str], verb: str) -> Answer:
        return 200, {"multi_user": self.multi_user}

    def _get_experiments(self, request: Request, rest: list[str], verb: str) -> Answer | None:
        return self._get(self.experiments, "experiments", request, rest)

    def _post_experiments(self, request: Request, rest: list[str], verb: str) -> Answer:
        return self._post(self.experiments, "experiment_id", request.body)

    def _get_pipelines(self, request: Request, rest: list[str], verb: str) -> Answer | None:
        if rest[1:2] == ["versions"]:
            mine = {k: v for k, v in self.versions.items() if v["pipeline_id"] == rest[0]}
            return self._get(mine, "pipeline_versions", request, rest[2:])
        return self._get(self.pipelines, "pipelines", request, rest)

    def _post_pipelines(self, request: Request, rest: list[str], verb: str) -> Answer | None:
        if not rest:
            return self._post(self.pipelines, "pipeline_id", request.body)
        name, pipeline_id = request.query["name"][0], request.query.get("pipelineid", [""])[0]
        if rest != ["upload_version"] or pipeline_id not in self.pipelines:
            return None
        if any((v["pipeline_id"], v["name"]) == (pipeline_id, name) for v in self.versions.values()):
            return 409, {"message": f"the version {name} exists"}
        made: dict[str, Any] = {"pipeline_id": pipeline_id, "name": name, "display_name": name}
        spec, *platform = yaml.safe_load_all(request.body["uploadfile"])
        made["pipeline_spec"] = {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec
        status, value = self._post(self.versions, "pipeline_version_id", made)
        self.uploaded[value["pipeline_version_id"]] = request.body["uploadfile"]
        return status, value

    def _get_runs(self, request: Request, rest: list[str], verb: str) -> Answer | None:
        if rest and rest[0] in self.runs:
            return 200, _plain(self._look(self.runs[rest[0]]))
        return self._get(self.runs, "runs", request, rest)

    def _post_runs(self, request: Request, rest: list[str], verb: str) -> Answer | None:
        if not rest:
            reference = request.body.get("pipeline_version_reference") or {}
            if reference.get("pipeline_version_id") not in self.versions:
                return 400, {"message": "there is no such version"}
            return self._post(self.runs, "run_id", {**request.body, "state": "PENDING"})
        if verb != "terminate" or rest[0] not in self.runs:
            return None
        if self.runs[rest[0]]["state"] in (*ENDED, "CANCELING"):
            return 400, {"message": f"Failed to terminate a run {rest[0]}. Row not found"}
        self.ending.add(rest[0])
        self.runs[rest[0]].update(fixed=False, state=self.canceled[0])
        return 200, {}

    def _get_recurringruns(self, request: Request, rest: list[str], verb: str) -> Answer | None:
        return self._get(self.schedules, "recurringRuns", request, rest)

    def _post_recurringruns(self, request: Request, rest: list[str], verb: str) -> Answer | None:
        if not rest:
            enabled = "ENABLED" if request.body.get("mode") == "ENABLE" else "DISABLED"
            return self._post(self.schedules, "recurring_run_id", {**request.body, "status": enabled})
        if rest[0] not in self.schedules or verb not in ("enable", "disable"):
            return None
        self.schedules[rest[0]]["status"] = f"{verb.upper()}D"
        return 200, {}

    def _delete_recurringruns(self, request: Request, rest: list[str], verb: str) -> Answer | None:
        return (200, {}) if self.schedules.pop(rest[0], None) else None

    def _look(self, run: dict[str, Any]) -> dict[str, Any]:
        if run.get("fixed"):
            return run
        if run["run_id"] in self.ending:
            look = Look(self.canceled.pop(0) if len(self.canceled) > 1 else self.canceled[0])
        else:
            look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        run["state"] = look.state
        details = {"run_details": {"task_details": list(look.tasks)}} if look.tasks else {}
        return {**run, **details, **look.more}

    def _post(self, table: dict[str, dict[str, Any]], key: str, body: Mapping[str, Any]) -> Answer:
        return 200, _plain(table[self._put(table, key, body)])

    def _put(self, table: dict[str, dict[str, Any]], key: str, body: Mapping[str, Any]) -> str:
        made = str(uuid.uuid4())
        created = START + datetime.timedelta(minutes=next(self._minutes))
        table[made] = {"created_at": created.isoformat().replace("+00:00", "Z"), **body, key: made}
        return made

    def _get(self, table: Mapping[str, dict[str, Any]], kind: str, request: Request, rest: list[str]) -> Answer | None:
        if rest:
            return (200, table[rest[0]]) if rest[0] in table else None
        found = list(_filtered(table.values(), request.query))
        if request.query.get("sort_by") == ["created_at desc"]:
            found.reverse()
        elif "sort_by" in request.query:
            return 400, {"message": f"cannot sort by {request.query['sort_by']}"}
        size = int(request.query.get("page_size", ["10"])[0])
        first = int(request.query.get("page_token", ["0"])[0])
        more = {"next_page_token": str(first + size)} if first + size < len(found) else {}
        return 200, {kind: [_plain(item) for item in found[first : first + size]], "total_size": len(found), **more}


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in item.items() if k != "fixed"}


def _filtered(items: Any, query: Mapping[str, list[str]]) -> Iterator[dict[str, Any]]:
    wanted = {k: query[k][0] for k in ("namespace", "experiment_id") if k in query}
    for predicate in json.loads(query["filter"][0])["predicates"] if "filter" in query else ():
        if predicate["operation"] not in ("EQUALS", 1) or predicate["key"] not in KEYS:
            raise AssertionError(f"the real server knows no such filter: {predicate}")
        wanted[predicate["key"]] = predicate["stringValue"]
    for item in items:
        if all(item.get(k, v if k == "namespace" else None) == v for k, v in wanted.items()):
            yield item


def _form(kind: str, raw: bytes) -> dict[str, Any]:
    """The parts of a multipart request by name."""
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + raw)
    parts: Any = message.get_payload()
    return {str(p.get_param("name", header="content-disposition")): p.get_payload(decode=True) for p in parts}


class _Handler(Handler):
    owner: KfpServer

    def answer(self) -> None:
        owner, request = self.owner, self._request()
        owner.before(request)
        fault = owner.fault(request)
        if fault is None:
            status, value = owner.reply(request)
            if status == 200:
                owner.violations += owner.contract.reply(request.method, request.path, value)
        elif fault.spoil is not None:
            body = fault.spoil(json.dumps(owner.reply(request)[1]).encode())
            self._send(fault.status, fault.kind, body)
            return
        else:
            if fault.acted:
                owner.reply(request)
            status, value = fault.status, {"message": owner.said}
        if status == RESET:
            owner.reset_when_closed(self.connection)
            self.close_connection = True
        elif status == STALL:
            owner.done.wait()
            self.close_connection = True
        elif status == PAGE:
            self._send(200, "text/html", b"<html>Log in</html>")
        else:
            self._send(status, "application/json", json.dumps(value).encode())

    def _request(self) -> Request:
        owner, parts, raw = self.owner, urlsplit(self.path), self.body()
        kind = self.headers.get("Content-Type", "")
        form = _form(kind, raw) if kind.startswith("multipart/form-data") else None
        body = form if form is not None else json.loads(raw) if raw else None
        request = Request(self.command, parts.path, parse_qs(parts.query), body, dict(self.headers))
        owner.requests.append(request)
        owner.violations += owner.contract.request(
            request.method, request.path, parts.query, None if form is not None else body, form
        )
        return request

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
