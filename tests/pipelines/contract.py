"""The official description of the Kubeflow Pipelines API, as a check on requests and replies."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

SWAGGER = Path(__file__).parents[3] / "shared" / "contracts" / "kfp_api_v2beta1.swagger.json"
_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "integer": (int,),
    "number": (int, float),
}  # fmt: skip
_WORDS = {"integer": r"-?\d+", "boolean": "true|false"}
"""What a query of that type looks like."""


class Contract:
    """Says what is wrong with a request or its reply; nothing when the swagger file is not there."""

    def __init__(self, path: Path = SWAGGER) -> None:
        self.known = path.is_file()
        swagger = json.loads(path.read_text("utf-8")) if self.known else {"paths": {}, "definitions": {}}
        self._definitions: dict[str, Any] = swagger["definitions"]
        self._paths = [
            (re.compile(re.sub(r"\{[^}]+\}", "[^/:]+", path) + "$"), spec)
            # The fewer placeholders, the closer: pipelines/upload is no pipeline of that id.
            for path, spec in sorted(swagger["paths"].items(), key=lambda item: item[0].count("{"))
        ]

    def request(
        self, method: str, path: str, query: str, body: Any, form: Mapping[str, Any] | None = None
    ) -> list[str]:
        """Problems of a request; `body` is None where none was sent, `form` has the parts of a multipart one."""
        if not self.known:
            return []
        operation = self._operation(method, path)
        if operation is None:
            return [f"{method} {path} is not in the API"]
        parameters = operation.get("parameters", ())
        found = self._query(path, {p["name"]: p for p in parameters if p["in"] == "query"}, query)
        files = {p["name"] for p in parameters if p["in"] == "formData"}
        if files != set(form or ()):
            found.append(f"{method} {path}: the form has {sorted(form or ())}, expected {sorted(files)}")
        wanted = next((p for p in parameters if p["in"] == "body"), None)
        if (wanted is None) != (body is None):
            found.append(f"{method} {path}: a body is {'missing' if body is None else 'not expected'}")
        elif wanted is not None:
            found += self._value(wanted["schema"], body, "body")
        return found

    def reply(self, method: str, path: str, value: Any) -> list[str]:
        """Problems of a successful reply, so that the server under test cannot invent an API of its own."""
        operation = self._operation(method, path)
        return [] if operation is None else self._value(operation["responses"]["200"]["schema"], value, "reply")

    def _query(self, path: str, known: Mapping[str, Any], query: str) -> list[str]:
        found = []
        for name, value in parse_qsl(query):
            if name not in known:
                found.append(f"{path}: unknown query {name}")
            elif not re.fullmatch(_WORDS.get(known[name]["type"], ".*"), value):
                found.append(f"{path}: the query {name} is {value!r}, expected {known[name]['type']}")
            elif name == "filter":
                found += self._filter(value)
        return found

    def _filter(self, text: str) -> list[str]:
        """Problems of a filter, which JSON may write in camelCase and with an operation's number."""
        value = json.loads(text)
        for predicate in value.get("predicates", ()):
            for name in list(predicate):
                predicate[re.sub("[A-Z]", lambda m: "_" + m[0].lower(), name)] = predicate.pop(name)
            operations = self._definitions["v2beta1PredicateOperation"]["enum"]
            if isinstance(predicate.get("operation"), int):
                predicate["operation"] = operations[predicate["operation"]]
        return self._value({"$ref": "#/definitions/v2beta1Filter"}, value, "filter")

    def _operation(self, method: str, path: str) -> Mapping[str, Any] | None:
        for pattern, spec in self._paths:
            if pattern.match(path) and method.lower() in spec:
                operation: Mapping[str, Any] = spec[method.lower()]
                return operation
        return None

    def _value(self, schema: Mapping[str, Any], value: Any, place: str) -> list[str]:
        if "$ref" in schema:
            schema = self._definitions[schema["$ref"].rpartition("/")[2]]
        kind = schema.get("type")
        if kind is None:
            return []
        expected: Any = _KINDS[kind]  # Any: mypy would narrow `value` to object
        if schema.get("format") == "int64":
            expected = (str, int)  # protobuf's JSON takes either
        if not isinstance(value, expected) or (kind in ("integer", "number") and isinstance(value, bool)):
            return [f"{place} is {type(value).__name__}, expected {kind}"]
        if "enum" in schema and value not in schema["enum"]:
            return [f"{place} is {value!r}, expected one of {schema['enum']}"]
        if kind == "array":
            return [p for i, v in enumerate(value) for p in self._value(schema["items"], v, f"{place}[{i}]")]
        if kind != "object" or "properties" not in schema:
            return []
        found = []
        for name, item in value.items():
            if name in schema["properties"]:
                found += self._value(schema["properties"][name], item, f"{place}.{name}")
            elif "additionalProperties" not in schema:
                found.append(f"{place} has an unknown field {name}")
        return found
