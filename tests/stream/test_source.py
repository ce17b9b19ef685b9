"""Names of datasets, resolved with the real clients against real servers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import HfFileSystem

from headrace.errors import HeadraceError, InputError
from headrace.stream.documents import Reader
from headrace.stream.files import _hub
from headrace.stream.source import resolve
from tests.servers.faultproxy import FaultProxy
from tests.servers.gcs import GcsServer
from tests.servers.hub import HubServer
from tests.servers.hub_repos import make_dataset_repo
from tests.stream.conftest import PYDOCS, Write, manifest_of

SHARDS = sorted((PYDOCS / "data").glob("*.parquet"))


def rows(name: str, **how: str) -> int:
    """Rows of all files, each read to its last row."""
    manifest = manifest_of(name, **how)
    assert len(list(Reader(manifest).rows())) == manifest.rows
    return manifest.rows


@pytest.mark.parametrize(
    "name", ["", "/data", "/data/train-0000*.parquet", "/data/*-of-00006.parquet"], ids=["yaml", "bare", "glob", "star"]
)
def test_folders_and_globs(name: str) -> None:
    assert rows(f"{PYDOCS}{name}") == 57


def test_a_file_and_a_file_uri() -> None:
    assert rows(str(SHARDS[0])) == rows(f"file://{SHARDS[0]}") == 9


def test_paths_do_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    shutil.copytree(PYDOCS, tmp_path / "copy")
    here, there = resolve(str(PYDOCS)), resolve(str(tmp_path / "copy"))
    assert [f.path for f in here.files] == [f.path for f in there.files] and len(here.files) == 6
    assert manifest_of(PYDOCS).hash == manifest_of(tmp_path / "copy").hash


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("{folder}/dato", {}, "nearest: data"),
        ("examples/pydoc", {}, "no file or folder examples/pydoc (nearest: pydocs"),
        ("{folder}", {"split": "trian"}, "no split 'trian' (nearest: train)"),
        ("{folder}", {"config": "deflaut"}, "no configuration 'deflaut' (nearest: default)"),
        ("{folder}/data", {"split": "test"}, "no split 'test'"),
        ("{folder}/data/none-*.parquet", {}, "nothing at"),
        ("{folder}/data/train-00000-of-00006.parquet", {"config": "x"}, "does not apply"),
        ("nowhere://bucket/data", {}, "unknown kind"),
    ],
)
def test_what_is_not_there_is_named(name: str, how: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PYDOCS.parents[1])
    with pytest.raises(InputError) as found:
        resolve(name.format(folder=PYDOCS), **how)
    assert said in found.value.message


def test_files_whose_names_tell_no_format_or_several_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"1")
    (tmp_path / "a.jsonl").write_text("{}\n")
    (tmp_path / "a.csv").write_text("text\n")
    with pytest.raises(InputError, match=r"the format of model.bin is not known"):
        resolve(str(tmp_path / "model.bin"))
    with pytest.raises(InputError, match=r"several formats, such as a.csv and a.jsonl"):
        resolve(str(tmp_path / "a.*"))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    root = tmp_path_factory.mktemp("hub")
    files = {f"data/CC-MAIN-2024-10/{p.name}": p for p in SHARDS}
    make_dataset_repo(root, "HuggingFaceFW/fineweb", files, configs={"CC-MAIN-2024-10": "data/CC-MAIN-2024-10/*"})
    make_dataset_repo(root, "secret/terms", {"a.parquet": SHARDS[0]}, configs={"default": "*.parquet"})
    with HubServer(root, gated={"secret/terms"}) as server:
        yield server


@pytest.fixture
def online(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    hub.patch(monkeypatch, tmp_path / "home")
    return hub


def test_a_hub_dataset_is_pinned_to_its_commit(online: HubServer) -> None:
    source = resolve("HuggingFaceFW/fineweb", config="CC-MAIN-2024-10")
    assert len(source.revision) == 40 and len(source.files) == 6
    assert all(f"@{source.revision}/" in f.uri and f.etag for f in source.files)
    assert source.files[0].path == f"data/CC-MAIN-2024-10/{SHARDS[0].name}"
    assert rows("HuggingFaceFW/fineweb", config="CC-MAIN-2024-10") == 57
    again = resolve("HuggingFaceFW/fineweb", config="CC-MAIN-2024-10", revision=source.revision)
    assert again.files == source.files


def test_threads_of_a_rank_ask_the_hub_once_whether_the_commit_is_there(online: HubServer) -> None:
    manifest = manifest_of("HuggingFaceFW/fineweb", config="CC-MAIN-2024-10")
    # As a rank is that was handed its manifest: it has asked the Hub nothing.
    _hub.cache_clear()
    HfFileSystem.clear_instance_cache()
    online.requests.clear()
    reader = Reader(manifest)
    with ThreadPoolExecutor(len(manifest.files)) as threads:
        list(threads.map(lambda file: reader.table(file, 0), range(len(manifest.files))))
    asked = [r.path for r in online.requests if "/resolve/" not in r.path]
    assert asked == [f"/api/datasets/HuggingFaceFW/fineweb/revision/{manifest.revision}"]


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("HuggingFaceFW/finewebb", {}, "nearest: HuggingFaceFW/fineweb"),
        ("HuggingFaceFW/fineweb", {"config": "CC-MAIN-2024-11"}, "nearest: CC-MAIN-2024-10"),
        (
            "HuggingFaceFW/fineweb",
            {"config": "CC-MAIN-2024-10", "revision": "mian"},
            "no revision 'mian' (nearest: main",
        ),
        ("HuggingFaceFW/fineweb", {"config": "CC-MAIN-2024-10", "split": "test"}, "no split 'test' (nearest: train)"),
        ("secret/terms", {}, "secret/terms"),
    ],
)
def test_what_the_hub_does_not_have_is_named(online: HubServer, name: str, how: dict[str, str], said: str) -> None:
    with pytest.raises(InputError) as found:
        resolve(name, **how)
    assert said in found.value.message


@pytest.fixture(scope="module")
def gcs() -> Iterator[GcsServer]:
    with GcsServer() as server:
        bucket = server.create_bucket("corpus")
        for path in SHARDS:
            server.client().bucket("corpus").blob(f"docs/{path.name}").upload_from_filename(path)
        assert bucket is not None
        yield server


@pytest.mark.parametrize("name", ["docs", "docs/train-*.parquet"])
def test_a_bucket(gcs: GcsServer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in gcs.env().items():
        monkeypatch.setenv(key, value)
    assert rows(f"gs://corpus/{name}") == 57
    assert all(f.etag for f in resolve(f"gs://corpus/{name}").files)
    with pytest.raises(InputError, match="nothing at gs://corpus/other"):
        resolve("gs://corpus/other/*.parquet")
    with pytest.raises(InputError, match="gs://no-such-bucket"):
        resolve("gs://no-such-bucket/docs")


def test_faults_on_the_way_are_retried_and_refusals_are_not(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.stream.retry.FIRST_WAIT_S", 0.05)
    with FaultProxy(hub.url) as proxy:
        name = f"{proxy.url}/datasets/HuggingFaceFW/fineweb/resolve/main/data/CC-MAIN-2024-10/{SHARDS[0].name}"
        manifest = manifest_of(name)
        quiet = [d.text for d in Reader(manifest).rows()]
        fault = proxy.add("^GET", "status", times=3, status=503)
        assert [d.text for d in Reader(manifest, deadline_s=30).rows()] == quiet and fault.hits == 3
        proxy.clear()
        fault = proxy.add("^GET", "reset_mid", times=2, after_bytes=1_000)
        assert [d.text for d in Reader(manifest, deadline_s=30).rows()] == quiet and fault.hits == 2
        proxy.clear()
        proxy.add("^GET", "status", times=-1, status=500)
        with pytest.raises(HeadraceError, match="tried for 0 s") as failed:
            list(Reader(manifest, deadline_s=0.3).rows())
        assert failed.value.exit_code == 1 and SHARDS[0].name in failed.value.message
        proxy.clear()
        proxy.add("", "status", times=-1, status=403)
        with pytest.raises(InputError, match="may not read"):
            resolve(name)
        with pytest.raises(InputError, match="cannot read"):
            list(Reader(manifest).rows())


def test_an_address_where_nobody_listens() -> None:
    with pytest.raises(InputError, match="cannot reach"):
        resolve("http://127.0.0.1:9/a.parquet")


def test_a_dataset_of_one_split_by_file_names(write: Write, tmp_path: Path) -> None:
    write("train-a.parquet", ["one", "two"])
    write("test-a.parquet", ["three"])
    assert [f.path for f in resolve(str(tmp_path)).files] == ["train-a.parquet"]
    assert [f.path for f in resolve(str(tmp_path), split="test").files] == ["test-a.parquet"]
