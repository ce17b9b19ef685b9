"""The check on the API must itself be able to fail."""

from __future__ import annotations

from urllib.parse import urlencode

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
        ("GET", RUNS, "page_size=many", None, "the query page_size is 'many', expected integer"),
        ("GET", RUNS, "filter=%7B%22all%22%3A1%7D", None, "filter has an unknown field all"),
        ("GET", RUNS, "filter=%7B%22predicates%22%3A%5B%7B%22key%22%3A1%7D%5D%7D", None, "key is int, expected string"),
        ("POST", "/apis/v2beta1/pipelines/upload_version", "", None, "expected ['uploadfile']"),
        ("POST", "/apis/v2beta1/recurringruns", "", {"max_concurrency": 1.5}, "is float, expected string"),
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
    equals = '{"predicates": [{"operation": 1, "key": "display_name", "stringValue": "x"}]}'
    assert Contract().request("GET", RUNS, urlencode({"filter": equals, "page_size": 9}), None) == []
    assert Contract().request("POST", f"{RUNS}/run-1:terminate", "", None) == []
    upload = "/apis/v2beta1/pipelines/upload_version"
    assert Contract().request("POST", upload, "name=x", None, {"uploadfile": b""}) == []
    assert Contract().request("POST", "/apis/v2beta1/recurringruns", "", {"max_concurrency": 1}) == []
    assert Contract().reply("GET", f"{RUNS}/run-1", {"state": "RUNNING"}) == []
    assert Contract().reply("GET", f"{RUNS}/run-1", {"status": "RUNNING"}) != []
