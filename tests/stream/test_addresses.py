"""Addresses with credentials in them are refused, and the credential is not repeated."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import InputError
from headrace.options import parse_mapping
from headrace.options.parse import known_flags
from headrace.stream.addresses import secret_in
from headrace.stream.source import resolve
from headrace_pipelines.__main__ import main

SECRET = "s3cr3tpw"
WITH_SECRET = [
    f"http://bob:{SECRET}@host/a.parquet", f"https://:{SECRET}@host/a", f"http://bob:{SECRET}/x@host/a.parquet",
    f"http://bob:12345{SECRET}@host:80/a", f"https://host/a.parquet?sig={SECRET}", f"https://host/a?x=1&SIG={SECRET}",
    f"https://acc.blob/a?sv=2024&se=2026&sp=r&sig={SECRET}", f"https://host/a?X-Amz-Signature={SECRET}",
    f"https://host/a?x=1;api-key={SECRET}", f"https://host/a?apikey={SECRET}", f"https://host/a?access%5Ftoken={SECRET}",
    f"https://host/a?x-goog-credential={SECRET}", f"https://host/a#access_token={SECRET}",
    f"simplecache::https://bob:{SECRET}@host/a", f"zip://a.parquet::https://host/b.zip?token={SECRET}",
    f"s3://bucket/a.parquet?AWSAccessKeyId={SECRET}", f"gs://b/a?password={SECRET}", f"hf://datasets/a/b?auth={SECRET}",
]  # fmt: skip
WITHOUT = [
    "http://host/a.parquet", "http://host:8080/a@b/c.parquet", "https://host/a?download=true&version=2", "gs://b/a-?.parquet",
    "abfs://container@account.dfs.core.windows.net/a", "hf://datasets/a/b@main/c.parquet", "http://[::1]:80/a@b",
    "hf://datasets/a/b@~parquet", "s3://b/a:b/c@d.parquet", "https://host/a?se=1&sp=2&sv=3", "/a?sig=x", "a:b@c", "http://host:80",
    "https://host/tokens=3/key=a/x.parquet", "https://host/a?keyword=x", "ssh://me@host/a",
]  # fmt: skip


@pytest.mark.parametrize("address", WITH_SECRET)
def test_what_opens_an_address_is_refused_and_not_repeated(address: str) -> None:
    found = secret_in(address)
    assert found and SECRET not in found
    with pytest.raises(InputError) as refused:
        resolve(address)
    assert SECRET not in f"{refused.value.message}{refused.value.remedy}" and "HF_TOKEN" in refused.value.remedy


@pytest.mark.parametrize("address", WITHOUT)
def test_plain_addresses_are_not(address: str) -> None:
    assert secret_in(address) is None


NAMES = sorted(f.name for f in known_flags().values() if f.kind == "str" and f.group != "training" and not f.choices)


@pytest.mark.parametrize("name", [*NAMES, "output_dir", "resume_from_checkpoint"])
def test_every_flag_that_takes_text_is_looked_at(name: str) -> None:
    for address in WITH_SECRET[0], WITH_SECRET[4]:
        for key in name, name.replace("_", "-"):
            with pytest.raises(InputError, match=f"--{name} has an address with") as refused:
                parse_mapping({key: address})
            assert SECRET not in f"{refused.value.message}{refused.value.remedy}"


def test_mixtures_and_lists_are_looked_at_and_texts_are_not() -> None:
    sources = [{"name": "a", "weight": 1}, {"name": WITH_SECRET[0], "weight": 1}]
    for mixture in (sources, json.dumps(sources), json.dumps(sources)[:-1]):
        with pytest.raises(InputError, match="--dataset_mixture has an address") as refused:
            parse_mapping({"dataset_mixture": mixture})
        assert SECRET not in str(refused.value)
    with pytest.raises(InputError, match="--metric has an address"):
        parse_mapping({"metric": ["accuracy", WITH_SECRET[4]]})
    assert parse_mapping({"sample_prompt": [WITH_SECRET[4]], "dataset_filter": f"url == {WITH_SECRET[4]}"}).given


@pytest.mark.parametrize(
    "argv",
    [
        ["validate", "--dataset_name", WITH_SECRET[0]], ["validate", WITH_SECRET[0]],
        ["train", f"--store={WITH_SECRET[4]}"],
        ["evaluate", "--publish", WITH_SECRET[0]], ["plan", "--report", WITH_SECRET[0]],
        ["peek", "--step", "1", "--dataset_name", WITH_SECRET[0]], ["validate", "--config", WITH_SECRET[0]],
        ["validate", "--max_steps", WITH_SECRET[0]],
    ],
)  # fmt: skip
def test_every_command_refuses_them(argv: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = main([*argv, "--output_dir", str(tmp_path / "out")])
    said = capfd.readouterr()
    assert code == 2 and "has an address with" in said.err and SECRET not in said.err + said.out
    assert not (tmp_path / "out").exists()


@pytest.fixture
def listing() -> Iterator[str]:
    """A folder on the web whose files are linked with a signature; its address."""

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f'<a href="/data/a.parquet?sig={SECRET}">a</a>'.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/data/"
        server.shutdown()


@pytest.mark.parametrize("glob", ["*", "*.parquet*"])
def test_files_of_a_listing_are_looked_at(glob: str, listing: str) -> None:
    with pytest.raises(InputError) as refused:
        resolve(listing + glob)
    assert "has an address with the parameter 'sig'" in refused.value.message and SECRET not in str(refused.value)
