"""The servers, each asked by the real clients that the project uses."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
import requests
from google.api_core.exceptions import NotFound, PreconditionFailed
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.servers.faultproxy import FaultProxy, Kind
from tests.servers.gcs import GcsServer
from tests.servers.hub import HubServer, make_dataset_repo, make_model_repo, tag

EXAMPLES = Path(__file__).parents[2] / "examples"
SHARDS = sorted((EXAMPLES / "pydocs/data").glob("*.parquet"))
FINEWEB = "HuggingFaceFW/fineweb"
GPT2 = "openai-community/gpt2"


def make_fineweb(root: Path, shards: int = 3) -> str:
    files = {f"data/CC-MAIN-2024-10/000_{i:05}.parquet": s for i, s in enumerate(SHARDS[:shards])}
    return make_dataset_repo(root, FINEWEB, files, {"default": "data/*/*", "CC-MAIN-2024-10": "data/CC-MAIN-2024-10/*"})


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    make_fineweb(tmp_path / "hub")
    make_model_repo(tmp_path / "hub", GPT2, EXAMPLES / "tiny-gpt2")
    with HubServer(tmp_path / "hub", gated={GPT2}) as server:
        yield server


def run(code: str, env: Mapping[str, str], *arguments: str) -> Any:
    """What a fresh Python prints as JSON; its clients see the environment from their import on."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env={**os.environ, **env}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module", autouse=True)
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubServer, Future[Any]]]:
    """Started before the other tests and asked for after them: it imports for five seconds, on another core."""
    folder = tmp_path_factory.mktemp("transformers")
    make_model_repo(folder / "hub", GPT2, EXAMPLES / "tiny-gpt2")
    code = """
import json
from transformers import AutoConfig, AutoTokenizer
tokenizer, config = AutoTokenizer.from_pretrained("openai-community/gpt2"), AutoConfig.from_pretrained("gpt2")
print(json.dumps([config.model_type, config.vocab_size, tokenizer.decode(tokenizer("a head race")["input_ids"])]))
"""
    with HubServer(folder / "hub") as hub, ThreadPoolExecutor(1) as pool:
        yield hub, pool.submit(run, code, hub.env(folder / "home"))


def test_datasets_resolves_and_streams_by_name(hub: HubServer, tmp_path: Path) -> None:
    code = """
import datasets, json
answer = {}
for config in ("CC-MAIN-2024-10", "default"):
    builder = datasets.load_dataset_builder("HuggingFaceFW/fineweb", config)
    answer[config] = {split: [str(f) for f in files] for split, files in builder.config.data_files.items()}
rows = datasets.load_dataset("HuggingFaceFW/fineweb", "CC-MAIN-2024-10", split="train", streaming=True)
print(json.dumps({"files": answer, "rows": [row["id"] for row in rows]}))
"""
    # Streaming imports torch where it finds it; two seconds that prove nothing here.
    answer = run(code, hub.env(tmp_path / "home") | {"USE_TORCH": "0"})
    commit = HfApi(hub.url).dataset_info(FINEWEB).sha
    files = [f"hf://datasets/{FINEWEB}@{commit}/data/CC-MAIN-2024-10/000_{i:05}.parquet" for i in range(3)]
    assert answer["files"] == {"CC-MAIN-2024-10": {"train": files}, "default": {"train": files}}
    assert answer["rows"] == [i for s in SHARDS[:3] for i in pq.read_table(s)["id"].to_pylist()]
    ranges = [r for r in hub.requests if r.range]
    assert ranges and all(r.method == "GET" and "/resolve/" in r.path for r in ranges)


def test_clients_of_this_process_can_be_pointed_at_a_hub(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.patch(monkeypatch, tmp_path / "home")
    builder = datasets.load_dataset_builder(FINEWEB, "CC-MAIN-2024-10", cache_dir=str(tmp_path / "cache"))
    uris = builder.config.data_files["train"]
    with HfFileSystem().open(uris[0]) as file:
        assert pq.read_table(file).equals(pq.read_table(SHARDS[0]))
    assert Path(hf_hub_download(FINEWEB, "README.md", repo_type="dataset")).is_relative_to(tmp_path / "home")
    with pytest.raises(datasets.exceptions.DatasetNotFoundError, match="doesn't exist on the Hub"):
        datasets.load_dataset_builder("HuggingFaceFW/finewebb", cache_dir=str(tmp_path / "cache"))
    with pytest.raises(datasets.exceptions.DatasetNotFoundError, match="Revision 'v9'"):
        datasets.load_dataset_builder(FINEWEB, revision="v9", cache_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize("redirect", [False, True])
def test_row_groups_are_read_by_range(tmp_path: Path, redirect: bool) -> None:
    make_fineweb(tmp_path)
    with HubServer(tmp_path, redirect_lfs=redirect) as hub:
        fs = HfFileSystem(endpoint=hub.url, skip_instance_cache=True)
        path = fs.glob(f"datasets/{FINEWEB}/**/*.parquet")[0]
        assert fs.info(path)["size"] == SHARDS[0].stat().st_size
        with fs.open(path, cache_type="none") as file:
            group = pq.ParquetFile(file).read_row_group(1, ["text"])
        assert group.equals(pq.ParquetFile(SHARDS[0]).read_row_group(1, ["text"]))
        assert all(r.range for r in hub.requests if r.path.endswith(".parquet"))
        assert any(r.path.startswith("/cdn/") for r in hub.requests) == redirect


def test_any_span_of_a_file(hub: HubServer) -> None:
    url, whole = f"{hub.url}/datasets/{FINEWEB}/resolve/main/README.md", b""
    with requests.Session() as session:
        whole = session.get(url).content
        size = len(whole)
        for asked, status, data in [
            ("bytes=0-0", 206, whole[:1]),
            ("bytes=5-", 206, whole[5:]),
            ("bytes=-7", 206, whole[-7:]),
            (f"bytes=3-{size + 9}", 206, whole[3:]),
            (f"bytes={size}-", 416, b""),
            ("lines=1-2", 200, whole),
        ]:
            reply = session.get(url, headers={"Range": asked})
            assert (reply.status_code, reply.content) == (status, data), asked
        head = session.head(url)
        assert head.content == b"" and head.headers["Content-Length"] == str(size)


def test_every_commit_stays_readable(tmp_path: Path) -> None:
    first = make_fineweb(tmp_path, 1)
    assert tag(tmp_path, "datasets", FINEWEB, "v1.0") == first
    second = make_fineweb(tmp_path, 2)
    third = make_fineweb(tmp_path, 3)
    with HubServer(tmp_path) as hub:
        api = HfApi(hub.url)

        def shards(revision: str | None) -> int:
            files = api.list_repo_files(FINEWEB, repo_type="dataset", revision=revision)
            return sum(f.endswith(".parquet") for f in files)

        assert [shards(r) for r in (None, "main", third, second, first, "v1.0")] == [3, 3, 3, 2, 1, 1]
        refs = api.list_repo_refs(FINEWEB, repo_type="dataset")
        assert [(b.name, b.target_commit) for b in refs.branches] == [("main", third)]
        assert [(t.name, t.target_commit) for t in refs.tags] == [("v1.0", first)]
        for missing in ("v2.0", "0" * 40, "../../models", "refs/pr/1"):
            with pytest.raises(RevisionNotFoundError):
                api.dataset_info(FINEWEB, revision=missing)
        make_fineweb(tmp_path, 4)  # while it is being served
        assert [shards(r) for r in ("main", third, first)] == [4, 3, 1]

        def readme(revision: str) -> str:
            return HfFileSystem(endpoint=hub.url, skip_instance_cache=True).read_text(
                f"datasets/{FINEWEB}@{revision}/README.md"
            )

        assert readme(third) == readme("main")
        edited = tmp_path / "datasets" / FINEWEB / "README.md"
        edited.write_text("edited in place")  # a new commit, too, but the one before is lost
        fourth = api.dataset_info(FINEWEB).sha
        assert fourth not in (first, second, third) and readme("main") == "edited in place" != readme(third)
        edited.write_text("again")
        with pytest.raises(RevisionNotFoundError):
            readme(str(fourth))


def test_unknown_names(hub: HubServer) -> None:
    anonymous, known, impostor = (HfApi(hub.url, token=t) for t in (False, "hf_known", "nonsense"))
    for name in ("HuggingFaceFW/finewebb", "nobody"):
        for api, status in ((anonymous, 401), (known, 404)):
            with pytest.raises(RepositoryNotFoundError) as refused:
                api.dataset_info(name)
            assert refused.value.response.status_code == status
    for path in ("/../hub/resolve/main/x", "/a/%2e%2e/resolve/main/x", "/api/spaces/a/b", "/"):
        assert requests.get(hub.url + path, timeout=9).status_code in (401, 404)
    with pytest.raises(HfHubHTTPError) as rejected:
        impostor.dataset_info(FINEWEB)
    assert not isinstance(rejected.value, RepositoryNotFoundError)
    with pytest.raises(EntryNotFoundError):
        anonymous.hf_hub_download(GPT2, "no-such-file", token=HubServer.TOKEN)
    with pytest.raises(EntryNotFoundError):
        list(anonymous.list_repo_tree(FINEWEB, "no/such/folder", repo_type="dataset"))
    assert [d.id for d in anonymous.list_datasets(search="fineweb")] == [FINEWEB]
    assert [d.id for d in anonymous.list_datasets(author="HuggingFaceFW")] == [FINEWEB]
    assert [d.id for d in anonymous.list_datasets(search="gpt")] == []


def test_gated_files_need_access(hub: HubServer, tmp_path: Path) -> None:
    for token, status in ((False, 401), ("hf_stranger", 403)):
        with pytest.raises(GatedRepoError) as refused:
            HfApi(hub.url, token=token).hf_hub_download(GPT2, "config.json", cache_dir=tmp_path / "cache")
        assert refused.value.response.status_code == status
    granted = HfApi(hub.url, token=HubServer.TOKEN)
    assert Path(granted.hf_hub_download(GPT2, "config.json", cache_dir=tmp_path / "cache")).is_file()
    assert granted.model_info(GPT2).gated == "auto" and granted.whoami()["name"] == "tester"


def test_listings_come_in_pages(tmp_path: Path) -> None:
    names = [f"part{i // 10}/f{i:02}.txt" for i in range(25)]
    make_dataset_repo(tmp_path, "org/many", dict.fromkeys(names, "x"))
    with HubServer(tmp_path, page_size=4) as hub:
        api = HfApi(hub.url)
        entries = api.list_repo_tree("org/many", repo_type="dataset", recursive=True)
        assert sorted(e.path for e in entries) == sorted([*names, "part0", "part1", "part2"])
        assert len([r for r in hub.requests if "cursor=" in r.path]) == 6
        below = api.list_repo_tree("org/many", "part2", repo_type="dataset")
        assert [e.path for e in below] == names[20:]
        found = api.get_paths_info("org/many", ["part0", names[3], "none"], repo_type="dataset")
        assert [e.path for e in found] == ["part0", names[3]]


@pytest.fixture(scope="module")
def gcs() -> Iterator[GcsServer]:
    with GcsServer() as server:
        server.create_bucket("data")
        yield server


def test_cloud_storage_client(gcs: GcsServer) -> None:
    blob = gcs.client().bucket("data").blob("a/b")
    blob.upload_from_string(b"one", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        blob.upload_from_string(b"two", if_generation_match=0)
    assert blob.download_as_bytes(start=1, end=1) == b"n"
    assert [b.name for b in gcs.client().list_blobs("data", prefix="a/")] == ["a/b"]
    with pytest.raises(NotFound):
        gcs.client().bucket("none").blob("x").upload_from_string(b"")


def test_gcsfs_reads_and_writes(gcs: GcsServer) -> None:
    code = """
import json, sys, fsspec, pyarrow.parquet as pq
fs, path = fsspec.core.url_to_fs("gs://data/shards/0.parquet")
fs.put(sys.argv[1], path)
with fs.open(path) as file:
    rows = pq.ParquetFile(file).read_row_group(1, ["id"])["id"].to_pylist()
print(json.dumps([rows, fs.glob("gs://data/shards/*"), int(fs.info(path)["generation"]) > 0]))
"""
    rows = pq.ParquetFile(SHARDS[0]).read_row_group(1, ["id"])["id"].to_pylist()
    assert run(code, gcs.env(), str(SHARDS[0])) == [rows, ["data/shards/0.parquet"], True]


def test_a_write_whose_reply_is_lost_has_landed(gcs: GcsServer) -> None:
    with FaultProxy(gcs.url) as proxy:
        lost = proxy.add("^POST /upload/", "drop_reply")
        blob = gcs.client(endpoint=proxy.url).bucket("data").blob("lost")
        with pytest.raises(PreconditionFailed):  # the client's own second attempt
            blob.upload_from_string(b"landed", if_generation_match=0)
        assert lost.hits == 1
        uploads = [(e.fault, e.status) for e in proxy.log if e.method == "POST"]
        assert uploads == [("drop_reply", None), (None, 412)]
    assert gcs.client().bucket("data").blob("lost").download_as_bytes() == b"landed"


def test_nothing_goes_around_the_proxy(gcs: GcsServer, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * (9 << 12))  # resumable: the server names the address of the second request
    with FaultProxy(gcs.url) as proxy:
        bucket = gcs.client(endpoint=proxy.url).bucket("data")
        bucket.blob("large").upload_from_filename(large)
        described = bucket.get_blob("large")  # and that of the download
        assert described.media_link.startswith(proxy.url)
        assert described.download_as_bytes() == large.read_bytes()
        asked = [
            (e.method, e.path.split("/")[1]) for e in proxy.log if "/o" in e.path
        ]  # the client asks for buckets, too
        assert asked == [("POST", "upload"), ("PUT", "upload"), ("GET", "storage"), ("GET", "download")]


@pytest.fixture
def proxy(hub: HubServer) -> Iterator[FaultProxy]:
    with FaultProxy(hub.url) as running:
        yield running


def shard_url(base: str) -> str:
    return f"{base}/datasets/{FINEWEB}/resolve/main/data/CC-MAIN-2024-10/000_00000.parquet"


def read_some(base: str, timeout_s: float = 5.0) -> tuple[bytes, Exception | None]:
    """What of the first shard arrives, and the error that ends it."""
    connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=timeout_s)
    data = b""
    try:
        connection.request("GET", shard_url(""))
        reply = connection.getresponse()
        assert reply.status == 200
        while chunk := reply.read1(4096):
            data += chunk
        if reply.length:
            raise http.client.IncompleteRead(data, reply.length)
    except (OSError, http.client.HTTPException) as error:
        return data, error
    finally:
        connection.close()
    return data, None


@pytest.mark.parametrize(
    ("kind", "after_bytes", "arrives", "error"),
    [
        ("reset", 0, 0, ConnectionResetError),
        ("drop_reply", 0, 0, ConnectionResetError),
        ("reset_mid", 10_000, 10_000, ConnectionResetError),
        ("truncate", 10_000, 10_000, http.client.IncompleteRead),
        ("truncate", 10_000_000, SHARDS[0].stat().st_size - 1, http.client.IncompleteRead),
        ("hang", 0, 0, TimeoutError),
        ("hang", 10_000, 10_000, TimeoutError),
    ],
)
def test_broken_exchanges(
    proxy: FaultProxy, hub: HubServer, kind: Kind, after_bytes: int, arrives: int, error: type[Exception]
) -> None:
    fault = proxy.add(r"^GET .*\.parquet", kind, after_bytes=after_bytes)
    data, ended = read_some(proxy.url, timeout_s=0.3 if kind == "hang" else 30.0)
    assert data == SHARDS[0].read_bytes()[:arrives]
    assert isinstance(ended, error)
    assert len(hub.requests) == (0 if kind == "reset" or (kind, after_bytes) == ("hang", 0) else 1)
    assert read_some(proxy.url) == (SHARDS[0].read_bytes(), None)
    assert fault.hits == 1
    assert [(e.fault, e.status) for e in proxy.log] == [(kind, 200 if arrives else None), (None, 200)]


def test_slow_and_refused_exchanges(proxy: FaultProxy) -> None:
    proxy.add("parquet", "slow", delay_s=0.2)
    proxy.add("^GET .*parquet", "status", times=-1, status=429)
    begun = time.monotonic()
    with requests.Session() as session:
        assert session.head(shard_url(proxy.url)).headers["Content-Length"] == str(SHARDS[0].stat().st_size)
        assert time.monotonic() - begun >= 0.2
        assert [session.get(shard_url(proxy.url)).status_code for _ in range(3)] == [429] * 3
        proxy.clear()
        reply = session.get(shard_url(proxy.url), headers={"Range": "bytes=4-9"})
    assert reply.content == SHARDS[0].read_bytes()[4:10]
    assert [(e.method, e.range, e.status) for e in proxy.log] == [("GET", "bytes=4-9", 206)]
    with pytest.raises(ValueError, match="no fault 'explode'"):
        proxy.add("x", "explode")  # type: ignore[arg-type]


def test_a_hub_behind_a_proxy_that_fails_once(tmp_path: Path) -> None:
    make_fineweb(tmp_path)
    with HubServer(tmp_path, redirect_lfs=True, page_size=2) as hub, FaultProxy(hub.url) as proxy:
        fs = HfFileSystem(endpoint=proxy.url, skip_instance_cache=True)
        failed = proxy.add("^GET /cdn/", "status", status=503)
        assert fs.cat_file(fs.glob(f"datasets/{FINEWEB}/**/*.parquet")[1]) == SHARDS[1].read_bytes()
        assert failed.hits == 1
        assert {r[:2] for r in hub.requests} <= {(e.method, e.path) for e in proxy.log}


def test_transformers_resolves_by_name(transformers: tuple[HubServer, Future[Any]]) -> None:
    hub, answer = transformers
    assert answer.result() == ["gpt2", 4096, "a head race"]
    # The name without an owner was led to its home.
    assert any(r.path.startswith("/api/models/gpt2") for r in hub.requests)
