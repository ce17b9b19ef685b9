"""Commit records, references, and bringing a model here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.artifacts import checkpoint as ck
from headrace.artifacts.files import read_json, write_json
from headrace.errors import DamagedCheckpoint, InputError

FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 100, "optimizer/state.pt": b"\0\1"}


def make(folder: Path, step: int = 7) -> ck.CommitRecord:
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return ck.commit(folder, step=step, plan_hash="p" * 64, ledger_head="head")


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


DAMAGES: list[Callable[[Path], None]] = [remove, truncate, flip]


def test_commit_reads_back(tmp_path: Path) -> None:
    record = make(tmp_path)
    assert set(record.files) == set(FILES)
    assert ck.read_commit(tmp_path) == record
    assert read_json(tmp_path / "commit.json")["hash"] == record.hash
    ck.verify(tmp_path, record)


def test_the_hash_leaves_out_the_time_only(tmp_path: Path) -> None:
    make(tmp_path)
    first = ck.commit(tmp_path, step=7, plan_hash="p", created="2026-01-01T00:00:00+00:00")
    again = ck.commit(tmp_path, step=7, plan_hash="p", created="2027-01-01T00:00:00+00:00")
    other = ck.commit(tmp_path, step=8, plan_hash="p", created="2026-01-01T00:00:00+00:00")
    assert first.hash == again.hash != other.hash


def test_commit_of_named_files_and_never_of_the_reference(tmp_path: Path) -> None:
    record = make(tmp_path)
    ck.CheckpointRef(uri=".", commit_hash=record.hash, step=7).write(tmp_path)
    assert ck.commit(tmp_path, step=7, plan_hash="p" * 64, ledger_head="head").hash == record.hash
    assert set(ck.commit(tmp_path, step=7, plan_hash="p", names=["config.json"]).files) == {"config.json"}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_verify_names_every_damaged_file(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    record = make(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(DamagedCheckpoint, match=name):
        ck.verify(tmp_path, record)
    if damage is not flip:
        with pytest.raises(DamagedCheckpoint, match=name):
            ck.verify(tmp_path, record, contents=False)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_commit_record_is_no_commit(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    make(tmp_path)
    damage(tmp_path / "commit.json")
    if damage is truncate:  # the last byte is the newline
        truncate(tmp_path / "commit.json")
    with pytest.raises(DamagedCheckpoint, match=r"commit\.json"):
        ck.read_commit(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 2),
        ("step", 8),
        ("files", {"../x": {"size": 1, "sha256": ""}}),
        ("files", []),
        ("hash", None),
    ],
)
def test_an_altered_commit_record_is_refused(tmp_path: Path, key: str, value: object) -> None:
    make(tmp_path)
    write_json(tmp_path / "commit.json", {**read_json(tmp_path / "commit.json"), key: value})
    with pytest.raises(DamagedCheckpoint):
        ck.read_commit(tmp_path)


def test_committed_lists_newest_first_and_says_why_not(tmp_path: Path) -> None:
    for step in (2, 10, 9, 11, 12):
        make(tmp_path / f"checkpoint-{step}", step)
    remove(tmp_path / "checkpoint-11" / "commit.json")
    truncate(tmp_path / "checkpoint-12" / "model.safetensors")
    make(tmp_path / "checkpoint-99", 98)
    make(tmp_path / "checkpoint-best")
    answer = ck.committed(tmp_path)
    assert [record.step for _, record in answer.found] == [10, 9, 2]
    assert answer.found[0][0] == tmp_path / "checkpoint-10"
    reasons = "\n".join(answer.passed_over)
    assert len(answer.passed_over) == 3
    assert "checkpoint-11 is not a committed" in reasons and "checkpoint-12/model.safetensors" in reasons
    assert ck.committed(tmp_path / "none") == ck.Committed([], [])


def test_reference_reads_back(tmp_path: Path) -> None:
    ref = ck.CheckpointRef(uri="gs://b/x", commit_hash="h", step=3, ledger_head="l")
    ref.write(tmp_path)
    assert ck.CheckpointRef.read(tmp_path) == ref


@pytest.mark.parametrize("text", ["[]", "{}", '{"uri": "", "commit_hash": "h", "step": 1, "ledger_head": ""}'])
def test_a_reference_that_is_not_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "checkpoint.json").write_text(text)
    with pytest.raises(InputError, match=r"checkpoint\.json is not a checkpoint reference"):
        ck.CheckpointRef.read(tmp_path)


def test_fetch_prefers_the_reference(tmp_path: Path) -> None:
    record = make(tmp_path / "store" / "checkpoint-7")
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "config.json").write_text("{}")
    ref = ck.CheckpointRef(uri=str(tmp_path / "store/checkpoint-7"), commit_hash=record.hash, step=7)
    ref.write(tmp_path / "artifact")
    fetched = ck.fetch(str(tmp_path / "artifact"), tmp_path / "scratch")
    assert fetched == ck.Fetched(tmp_path / "store/checkpoint-7", ref)


@pytest.mark.parametrize("uri", [".", "checkpoint-7"])
def test_fetch_takes_a_reference_from_beside_itself(tmp_path: Path, uri: str) -> None:
    folder = tmp_path if uri == "." else tmp_path / uri
    record = make(folder)
    ck.CheckpointRef(uri=uri, commit_hash=record.hash, step=7).write(tmp_path)
    assert ck.fetch(f"file://{tmp_path}", tmp_path / "scratch").folder == folder


def test_fetch_of_a_plain_model_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({}))
    assert ck.fetch(str(tmp_path), tmp_path / "scratch") == ck.Fetched(tmp_path, None)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("referred", [True, False])
def test_fetch_verifies(tmp_path: Path, damage: Callable[[Path], None], referred: bool) -> None:
    record = make(tmp_path)
    if referred:
        ck.CheckpointRef(uri=".", commit_hash=record.hash, step=7).write(tmp_path)
    damage(tmp_path / "model.safetensors")
    with pytest.raises(DamagedCheckpoint, match=r"model\.safetensors"):
        ck.fetch(str(tmp_path), tmp_path / "scratch")


def test_fetch_refuses_another_commit_or_none(tmp_path: Path) -> None:
    make(tmp_path)
    ck.CheckpointRef(uri=".", commit_hash="0" * 64, step=6).write(tmp_path)
    with pytest.raises(DamagedCheckpoint, match="another checkpoint than the one meant"):
        ck.fetch(str(tmp_path), tmp_path / "scratch")
    (tmp_path / "commit.json").unlink()
    with pytest.raises(DamagedCheckpoint, match=r"has no commit\.json"):
        ck.fetch(str(tmp_path), tmp_path / "scratch")


def test_fetch_says_what_it_found(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        ck.fetch(str(tmp_path / "none"), tmp_path)
    with pytest.raises(InputError, match="found nothing"):
        ck.fetch(str(tmp_path), tmp_path)
    make(tmp_path / "checkpoint-9", 9)
    make(tmp_path / "checkpoint-10", 10)
    with pytest.raises(InputError, match=r"expected checkpoint\.json or config\.json, found") as caught:
        ck.fetch(str(tmp_path), tmp_path)
    assert caught.value.remedy.endswith("/checkpoint-10")
