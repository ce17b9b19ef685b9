"""Checkpoints that are committed: a record of every file, written last, checked before anything is loaded."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from headrace.artifacts.files import (
    canonical_json,
    files_below,
    parse_json,
    read_json,
    sha256_file,
    write_json,
)
from headrace.artifacts.storage import LocalStore, Store, checked_name, open_store
from headrace.errors import DamagedCheckpoint, InputError

COMMIT = "commit.json"
REFERENCE = "checkpoint.json"
VERSION = 1
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_RUN_AGAIN = "use another checkpoint, or copy this one again from where it is whole"


class FileRecord(TypedDict):
    """What a commit record says of one file."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class CommitRecord:
    """Every file of a checkpoint and what it belongs to."""

    version: int = VERSION
    step: int
    """Optimizer steps done."""
    plan_hash: str
    ledger_head: str
    """Digest of the order ledger up to this step; empty when none is kept."""
    created: str
    """ISO 8601, UTC; no part of the hash."""
    files: dict[str, FileRecord] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Hex SHA-256 over the canonical JSON of all but `created`: equal for equal checkpoints."""
        content = asdict(self)
        del content["created"]
        return hashlib.sha256(canonical_json(content)).hexdigest()


def commit(
    folder: Path,
    *,
    step: int,
    plan_hash: str,
    ledger_head: str = "",
    names: Iterable[str] | None = None,
    created: str | None = None,
) -> CommitRecord:
    """Record the files below a folder (or only those named), then write `commit.json`: now it counts.

    `checkpoint.json` is left out too: it carries this record's hash and is written after it.
    """
    chosen = files_below(folder) if names is None else sorted(checked_name(name) for name in names)
    files: dict[str, FileRecord] = {}
    for name in chosen:
        if name not in (COMMIT, REFERENCE):
            _flush(folder / name)
            files[name] = {"size": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
    record = CommitRecord(
        step=step,
        plan_hash=plan_hash,
        ledger_head=ledger_head,
        created=created or datetime.now(UTC).isoformat(timespec="seconds"),
        files=files,
    )
    write_json(folder / COMMIT, {**asdict(record), "hash": record.hash})
    return record


def _flush(path: Path) -> None:
    # The record must not reach the disk before what it vouches for.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_commit(folder: Path) -> CommitRecord:
    """The folder's commit record; DamagedCheckpoint when it is missing, unreadable or untrue to its hash."""
    try:
        return parse_commit(read_json(folder / COMMIT), str(folder / COMMIT))
    except DamagedCheckpoint:
        raise
    except InputError as error:
        raise DamagedCheckpoint(f"{folder} is not a committed checkpoint: {error.message}", _RUN_AGAIN) from error


def parse_commit(value: Any, name: str) -> CommitRecord:
    """The commit record in a JSON value; DamagedCheckpoint says that `name` does not hold it."""
    if not isinstance(value, dict):
        raise DamagedCheckpoint(f"{name} is not a commit record: expected an object", _RUN_AGAIN)
    if value.get("version") != VERSION:
        raise DamagedCheckpoint(
            f"{name} has the version {value.get('version')!r}; this Headrace reads version {VERSION}",
            "use the Headrace that wrote it",
        )
    try:
        files: dict[str, FileRecord] = {
            checked_name(path): {"size": int(entry["size"]), "sha256": str(entry["sha256"])}
            for path, entry in value["files"].items()
        }
        record = CommitRecord(
            step=int(value["step"]),
            plan_hash=str(value["plan_hash"]),
            ledger_head=str(value["ledger_head"]),
            created=str(value["created"]),
            files=files,
        )
    except (AttributeError, InputError, KeyError, TypeError, ValueError) as error:
        raise DamagedCheckpoint(f"{name} is not a whole commit record: {error!r}", _RUN_AGAIN) from error
    if value.get("hash") != record.hash:
        raise DamagedCheckpoint(
            f"{name} was changed after it was written: its hash is {record.hash}; it recorded {value.get('hash')}",
            _RUN_AGAIN,
        )
    return record


def verify(folder: Path, record: CommitRecord, *, contents: bool = True) -> None:
    """Raise DamagedCheckpoint naming the first file that is missing, cut short or changed.

    `contents=False` compares sizes only, which costs a stat a file.
    """
    for name, expected in sorted(record.files.items()):
        path = folder / name
        if not path.is_file():
            raise DamagedCheckpoint(f"{path} is missing, but {COMMIT} names it", _RUN_AGAIN)
        size = path.stat().st_size
        if size != expected["size"]:
            raise DamagedCheckpoint(f"{path} has {size} bytes; {COMMIT} recorded {expected['size']}", _RUN_AGAIN)
        if contents:
            digest = sha256_file(path)
            if digest != expected["sha256"]:
                raise DamagedCheckpoint(
                    f"{path} was changed: its SHA-256 is {digest}; {COMMIT} recorded {expected['sha256']}",
                    _RUN_AGAIN,
                )


@dataclass(frozen=True)
class Committed:
    """The checkpoints of a run that may be resumed, newest first, and why others may not."""

    found: list[tuple[Path, CommitRecord]]
    passed_over: list[str]


def committed(output_dir: Path) -> Committed:
    """Look through the `checkpoint-N` folders, comparing sizes; `verify` the one chosen before loading it."""
    found: list[tuple[Path, CommitRecord]] = []
    passed_over: list[str] = []
    for step, folder in _checkpoint_folders(output_dir):
        try:
            record = read_commit(folder)
            verify(folder, record, contents=False)
        except DamagedCheckpoint as error:
            passed_over.append(error.message)
            continue
        if record.step != step:
            passed_over.append(f"{folder} is named after another step than its record's, {record.step}")
            continue
        found.append((folder, record))
    return Committed(found, passed_over)


def _checkpoint_folders(output_dir: Path) -> list[tuple[int, Path]]:
    if not output_dir.is_dir():
        return []
    numbered = [
        (int(match[1]), path)
        for path in output_dir.iterdir()
        if path.is_dir() and (match := _CHECKPOINT.fullmatch(path.name))
    ]
    return sorted(numbered, reverse=True)


@dataclass(frozen=True, kw_only=True)
class CheckpointRef:
    """Where a committed checkpoint lies: the small file that a pipeline passes on in its place."""

    uri: str
    """A folder or `gs://` URI; `.`, or another relative path, is meant from beside `checkpoint.json`."""
    commit_hash: str
    step: int
    ledger_head: str = ""

    def write(self, folder: Path) -> Path:
        """Write `checkpoint.json` in a folder; its path."""
        write_json(folder / REFERENCE, asdict(self))
        return folder / REFERENCE

    @classmethod
    def read(cls, folder: Path) -> CheckpointRef:
        """The reference in a folder; InputError when it is missing or not whole."""
        return cls._parse(read_json(folder / REFERENCE), str(folder / REFERENCE))

    @classmethod
    def _parse(cls, value: Any, name: str) -> CheckpointRef:
        expected = {item.name: str if item.name != "step" else int for item in fields(cls)}
        if (
            not isinstance(value, dict)
            or not all(isinstance(value.get(key), kind) for key, kind in expected.items())
            or not value["uri"]
            or not value["commit_hash"]
        ):
            raise InputError(
                f"{name} is not a checkpoint reference: expected uri, commit_hash, step and ledger_head",
                "make it again with the step that wrote it",
            )
        return cls(**{key: value[key] for key in expected})


@dataclass(frozen=True)
class Fetched:
    """A model folder on this machine, checked, and the reference that led to it."""

    folder: Path
    ref: CheckpointRef | None


def fetch(location: str, scratch: Path) -> Fetched:
    """Bring a model here, checked, from a local or gs:// folder.

    It may be a model folder, a training output, or a folder with `checkpoint.json`. Local folders are used
    where they lie; remote files go below `scratch`. Whatever has a reference or a commit record is verified
    before this returns: DamagedCheckpoint when it is not what was committed.
    """
    store = open_store(location)
    if isinstance(store, LocalStore) and not store.folder.is_dir():
        raise InputError(
            f"there is no folder {location}; expected a model folder, a training output or a gs:// URI",
            "check the path, or train first",
        )
    top = _top_level(store)
    if REFERENCE in top:
        name = f"{store.uri}/{REFERENCE}"
        ref = CheckpointRef._parse(parse_json(store.read(REFERENCE), name), name)
        return Fetched(_fetch_model(_referred(store, ref.uri), scratch, ref), ref)
    if "config.json" in top:
        return Fetched(_fetch_model(store, scratch, None), None)
    raise InputError(
        f"{location} holds no model: expected {REFERENCE} or config.json, found {_listing(top)}",
        _remedy(location, top),
    )


def committed_hash(location: str) -> str | None:
    """The commit hash of what lies at a folder or `gs://` URI; None for what Headrace never committed."""
    store = open_store(location)
    if store.exists(REFERENCE):
        name = f"{store.uri}/{REFERENCE}"
        return CheckpointRef._parse(parse_json(store.read(REFERENCE), name), name).commit_hash
    if store.exists(COMMIT):
        name = f"{store.uri}/{COMMIT}"
        return parse_commit(parse_json(store.read(COMMIT), name), name).hash
    return None


def _top_level(store: Store) -> set[str]:
    if isinstance(store, LocalStore):
        return {path.name for path in store.folder.iterdir()}
    return {name.split("/", 1)[0] for name in store.names()}


def _listing(names: set[str]) -> str:
    shown = sorted(names)[:8]
    return (", ".join(shown) + (f" and {len(names) - 8} more" if len(names) > 8 else "")) or "nothing"


def _remedy(location: str, top: set[str]) -> str:
    steps = sorted(int(match[1]) for name in top if (match := _CHECKPOINT.fullmatch(name)))
    if steps:
        newest = f"{location.rstrip('/')}/checkpoint-{steps[-1]}"
        return f"to use the newest checkpoint of an unfinished run, name {newest}"
    return "name the folder that training wrote (--output_dir), or a folder in Hugging Face's layout"


def _referred(store: Store, uri: str) -> Store:
    if "://" in uri or Path(uri).is_absolute():
        return open_store(uri)
    if uri == ".":
        return store
    if isinstance(store, LocalStore):
        return LocalStore(store.folder / uri)
    return store.child(uri)


def _fetch_model(store: Store, scratch: Path, ref: CheckpointRef | None) -> Path:
    names = None if isinstance(store, LocalStore) else set(store.names())
    has_commit = store.exists(COMMIT) if names is None else COMMIT in names
    if not has_commit:
        if ref is not None:
            raise DamagedCheckpoint(
                f"{store.uri} has no {COMMIT}, but {REFERENCE} names its commit {ref.commit_hash}",
                _RUN_AGAIN,
            )
        return _bring(store, scratch, _without_checkpoints(names))
    name = f"{store.uri}/{COMMIT}"
    record = parse_commit(parse_json(store.read(COMMIT), name), name)
    if ref is not None and record.hash != ref.commit_hash:
        raise DamagedCheckpoint(
            f"{store.uri} is another checkpoint than the one meant: its commit hash is {record.hash} (step "
            f"{record.step}); {REFERENCE} names {ref.commit_hash} (step {ref.step})",
            _RUN_AGAIN,
        )
    if names is not None:
        missing = sorted(set(record.files) - names)
        if missing:
            raise DamagedCheckpoint(f"{store.uri}/{missing[0]} is missing, but {COMMIT} names it", _RUN_AGAIN)
    folder = _bring(store, scratch, [*sorted(record.files), COMMIT])
    verify(folder, record)
    return folder


def _without_checkpoints(names: set[str] | None) -> list[str]:
    return sorted(name for name in names or () if not _CHECKPOINT.fullmatch(name.split("/", 1)[0]))


def _bring(store: Store, scratch: Path, names: list[str]) -> Path:
    if isinstance(store, LocalStore):
        return store.folder
    # Named after its origin, so that two models fetched into one scratch folder do not mix.
    target = scratch / hashlib.sha256(store.uri.encode()).hexdigest()[:16]
    store.download_folder(target, names)
    return target
