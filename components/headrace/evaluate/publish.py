"""A model and its papers, put where others find them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.artifacts.checkpoint import COMMIT, CommitRecord, commit, read_commit
from headrace.artifacts.storage import Store
from headrace.errors import DamagedCheckpoint
from headrace.inputs import Progress

CURRENT = "current.json"


@dataclass(frozen=True)
class Published:
    """Where a version lies. commit_hash: of the model's files there; written: names that were new or different."""

    uri: str
    version: str
    commit_hash: str
    written: tuple[str, ...]


def publish(
    store: Store,
    version: str,
    *,
    model: Mapping[str, Path],
    papers: Sequence[Path],
    origin: CommitRecord | None,
    scratch: Path,
    progress: Progress | None = None,
) -> Published:
    """Put a model folder at `<store>/<version>/`, its papers beside it, and `current.json` at the top last.

    What is there already, equal, is left alone, so that doing it again costs nothing. The model's files are vouched
    for by a commit record: `--model_name_or_path <store>/<version>` verifies them.
    """
    there = store.child(version)
    staging = scratch / "publish"
    staging.mkdir(parents=True)
    for name, path in model.items():
        (staging / name).symlink_to(path.resolve())
    record = commit(
        staging,
        step=origin.step if origin else 0,
        plan_hash=origin.plan_hash if origin else "",
        ledger_head=origin.ledger_head if origin else "",
    )
    written: list[str] = []
    if _commit_hash(there, scratch) != record.hash:
        written += _upload(there, staging, progress)
    written += [f"{version}/{path.name}" for path in papers if _put(there, path.name, path.read_bytes())]
    current = {"version": version, "uri": there.uri, "commit_hash": record.hash, "step": record.step}
    if _put(store, CURRENT, json.dumps(current, indent=2).encode() + b"\n"):
        written.append(CURRENT)
    return Published(there.uri, version, record.hash, tuple(written))


def _commit_hash(there: Store, scratch: Path) -> str | None:
    """The hash of the version that is there; None when it is not, or was left half-done."""
    if not there.exists(COMMIT):
        return None
    copy = scratch / "published"
    there.download_file(COMMIT, copy / COMMIT)
    try:
        return read_commit(copy).hash
    except DamagedCheckpoint:
        return None


def _upload(there: Store, staging: Path, progress: Progress | None) -> list[str]:
    total = sum(path.stat().st_size for path in staging.iterdir())
    done = 0

    def arrived(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress("publish", done, total, "bytes")

    # A record of other files must not vouch for these while they arrive.
    there.delete(COMMIT)
    return [f"{there.uri.rsplit('/', 1)[-1]}/{name}" for name in there.upload_folder(staging, arrived)]


def _put(store: Store, name: str, data: bytes) -> bool:
    """Write a small file unless it is there with this content; whether it was written."""
    if store.exists(name) and store.read(name) == data:
        return False
    store.write(name, data)
    return True
