"""The check on the API must itself be able to fail."""

from __future__ import annotations

import pytest

from tests.pipelines.contract import SWAGGER, Contract

pytestmark = pytest.mark.skipif(not SWAGGER.is_file(), reason="the official swagger is not beside the checkout")
RUNS = "/apis/v2beta1/runs"


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "says"),
    [
        ("POST", RUNS, "", {"display_name": 3}, "body.display_name is int, expected string"),
        ("POST", RUNS, "", {"name": "x"}, "body has an unknown field name"),
        ("POST", RUNS, "", {"state": "DONE"}, "body.state is 'DONE', expected one of"),
        ("POST", RUNS, "", None, "a body is missing"),
        ("GET", RUNS, "pages=3", None, "unknown query pages"),
        ("GET", "/apis/v1/runs", "", None, "is not in the API"),
    ],
)
def test_it_notices(method: str, path: str, query: str, body: object, says: str) -> None:
    (problem,) = Contract().request(method, path, query, body)
    assert says in problem


def test_it_passes_what_is_right() -> None:
    body = {"display_name": "x", "runtime_config": {"parameters": {"a": {"b": 1}}}, "pipeline_spec": {"root": {}}}
    assert Contract().request("POST", RUNS, "", body) == []
    assert Contract().request("GET", f"{RUNS}/run-1", "experiment_id=e", None) == []
    assert Contract().reply("GET", f"{RUNS}/run-1", {"state": "RUNNING"}) == []
    assert Contract().reply("GET", f"{RUNS}/run-1", {"status": "RUNNING"}) != []
