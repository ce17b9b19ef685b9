"""What W&B recorded offline, read back from its own file: LevelDB's log framing around W&B's protobuf records."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

_HEADER = struct.Struct("<4sHB")  # magic letters, magic number, version
_CHUNK = struct.Struct("<IHB")  # crc32 of type and data, length, type
_BLOCK = 32 << 10
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass(frozen=True)
class LoggedArtifact:
    """An artifact of a run. files: size in bytes by path."""

    name: str
    type: str
    aliases: tuple[str, ...]
    metadata: dict[str, Any]
    files: dict[str, int]


@dataclass
class OfflineRun:
    """One run. history: a dictionary a logged step, with `_step` among its keys; exit_code: None if it never ended."""

    id: str = ""
    project: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[LoggedArtifact] = field(default_factory=list)
    exit_code: int | None = None


def find_runs(folder: Path) -> list[Path]:
    """The files of all offline runs below a folder, oldest first."""
    return sorted(folder.rglob("offline-run-*/run-*.wandb"), key=lambda p: (p.stat().st_mtime_ns, p.name))


def read_run(path: Path) -> OfflineRun:
    """A run from its `run-*.wandb`; of a run that was killed, what it had written whole. ValueError for other files."""
    run = OfflineRun()
    for data in _records(path.read_bytes()):
        record: Any = pb.Record.FromString(data)  # type: ignore[attr-defined]
        match record.WhichOneof("record_type"):
            case "run":
                run.id, run.project, run.name = record.run.run_id, record.run.project, record.run.display_name
                run.group, run.job_type = record.run.run_group, record.run.job_type
                run.tags = tuple(record.run.tags)
                _update(run.config, record.run.config)
            case "config":
                _update(run.config, record.config)
            case "summary":
                _update(run.summary, record.summary)
            case "history":
                run.history.append(_values(record.history.item))
            case "artifact":
                run.artifacts.append(_artifact(record.artifact))
            case "request" if record.request.WhichOneof("request_type") == "log_artifact":
                run.artifacts.append(_artifact(record.request.log_artifact.artifact))
            case "exit":
                run.exit_code = record.exit.exit_code
    run.config.pop("_wandb", None)
    return run


def _records(data: bytes) -> Iterator[bytes]:
    """The records in order; ends without a word where the writer was interrupted."""
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[:2] != (b":W&B", 0xBEE1):
        raise ValueError("not a file of an offline W&B run")
    at, parts = _HEADER.size, bytearray()
    while True:
        room = _BLOCK - at % _BLOCK
        if room < _CHUNK.size:  # too little for a chunk's head: the block's rest is padding
            at += room
            continue
        if at + _CHUNK.size > len(data):
            return
        crc, length, kind = _CHUNK.unpack_from(data, at)
        at += _CHUNK.size
        if kind == 0 or at + length > len(data):
            return
        chunk = data[at : at + length]
        if zlib.crc32(chunk, zlib.crc32(bytes([kind]))) != crc:
            raise ValueError(f"damaged at byte {at}")
        at += length
        if kind in (_FULL, _FIRST):
            parts.clear()
        parts += chunk
        if kind in (_FULL, _LAST):
            yield bytes(parts)


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _values(items: Iterable[Any]) -> dict[str, Any]:
    return {_key(item): json.loads(item.value_json) for item in items}


def _update(known: dict[str, Any], change: Any) -> None:
    known.update(_values(change.update))
    for item in change.remove:
        known.pop(_key(item), None)


def _artifact(record: Any) -> LoggedArtifact:
    metadata: Mapping[str, Any] = json.loads(record.metadata or "{}")
    files = {entry.path: int(entry.size) for entry in record.manifest.contents}
    return LoggedArtifact(record.name, record.type, tuple(record.aliases), dict(metadata), files)
