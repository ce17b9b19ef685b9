"""What lies beside the files of a dataset, and names that look like globs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from headrace.errors import InputError
from headrace.stream.documents import Reader
from headrace.stream.source import resolve
from tests.servers.hub import HubServer
from tests.servers.hub_repos import make_dataset_repo
from tests.stream.conftest import PYDOCS, manifest_of

SHARDS = sorted((PYDOCS / "data").glob("*.parquet"))


def folder_of(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        if name.lower().endswith(".parquet"):
            shutil.copyfile(SHARDS[0], folder / name)
        else:
            (folder / name).write_text('{"text": "A line."}\n')
    return folder


@pytest.mark.parametrize("name", ["a[1].parquet", "a?.parquet", "a*.parquet"])
def test_a_file_named_like_a_glob(name: str, tmp_path: Path) -> None:
    path = folder_of(tmp_path, name, "a1.parquet") / name
    for named in str(path), f"file://{path}":
        found = resolve(named)
        assert [f.path for f in found.files] == [name], named
        assert len(list(Reader(manifest_of(named)).rows())) == 9


@pytest.mark.parametrize("name", ["dir[1]", "dir?", "d*r"])
def test_a_folder_named_like_a_glob(name: str, tmp_path: Path) -> None:
    plain = folder_of(tmp_path / "plain", "train-0.parquet", "train-1.parquet", "test-0.parquet")
    odd = folder_of(tmp_path / name, "train-0.parquet", "train-1.parquet", "test-0.parquet")
    assert [f.path for f in resolve(str(odd)).files] == ["train-0.parquet", "train-1.parquet"]
    assert [f.path.rpartition("/")[2] for f in resolve(f"file://{odd}").files] == ["train-0.parquet", "train-1.parquet"]
    assert manifest_of(odd).hash == manifest_of(plain).hash and not resolve(str(odd)).left_out
    assert len(list(Reader(manifest_of(odd)).rows())) == 18


def test_a_folder_named_like_a_glob_that_describes_itself(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "dir[1]", "a.parquet", "b.parquet")
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: a.parquet\n---\n")
    with pytest.raises(InputError, match=r"names its files in README\.md"):
        resolve(str(folder))


def test_a_glob_of_what_is_not_there_by_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "a1.parquet", "a2.parquet")
    assert len(resolve(f"{folder}/a[12].parquet").files) == len(resolve(f"file://{folder}/a?.parquet").files) == 2
    with pytest.raises(InputError, match="nothing at"):
        resolve(f"{folder}/b[1].parquet")


@pytest.mark.parametrize(
    ("names", "left_out"),
    [
        (["a.parquet", "b.jsonl"], {"b.jsonl": "another format"}),
        (["a.parquet", "B.PARQUET"], {"B.PARQUET": "not in small letters"}),
        (["train-0.parquet", "extra.parquet"], {"extra.parquet": "of no split"}),
        (["train-0.parquet", "test-0.parquet", "README.md", "config.json", ".hidden.parquet", "LICENSE"], {}),
        (["a.jsonl", "b.jsonl.gz"], {}),
        (["a.parquet", "b.csv.gz", "sub/c.parquet"], {"b.csv.gz": "another format"}),
    ],
)
def test_what_a_folder_has_beside_its_data(names: list[str], left_out: dict[str, str], tmp_path: Path) -> None:
    found = {f.path: f.why for f in resolve(str(folder_of(tmp_path, *names))).left_out}
    assert set(found) == set(left_out) and all(why in found[path] for path, why in left_out.items()), found


def test_nothing_is_missed_beside_a_glob_or_a_dataset_that_says_its_files() -> None:
    assert not resolve(str(PYDOCS)).left_out and not resolve(f"{PYDOCS}/data/*00000-of-*.parquet").left_out


def test_an_address_with_a_plain_query(tmp_path: Path) -> None:
    make_dataset_repo(tmp_path, "owner/name", {"a.parquet": SHARDS[0]}, configs={"default": "*.parquet"})
    with HubServer(tmp_path) as hub:
        name = f"{hub.url}/datasets/owner/name/resolve/main/a.parquet"
        assert manifest_of(f"{name}?download=true").rows == manifest_of(name).rows == 9
