"""Files that are whole or absent, and JSON that every reader accepts."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.errors import InputError

_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{12}\.tmp")


def temporary_beside(path: Path) -> Path:
    """A new name in the folder of `path`, so that renaming it to `path` is atomic."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file name was made by `temporary_beside`: the remains of a writer that was killed."""
    return _TEMPORARY.fullmatch(name) is not None


def sync_folder(folder: Path) -> None:
    """Make renames in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file that readers see whole or not at all; makes missing parent folders.

    `durable=False` leaves out fsync: for files of no worth after a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def write_json(path: Path, obj: object, *, durable: bool = True) -> None:
    """Write strict, indented UTF-8 JSON, atomically; ValueError for NaN and infinities (see `finite`)."""
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n", durable=durable)


def read_json(path: Path) -> Any:
    """The value in a JSON file; InputError names the file when it is missing or not strict JSON."""
    try:
        return parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def parse_json(data: bytes, name: str) -> Any:
    """The value of strict JSON bytes; InputError says that `name` does not hold it."""
    try:
        return json.loads(data.decode(), parse_constant=_refuse_constant)
    except ValueError as error:
        raise InputError(f"{name} does not hold strict JSON: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def canonical_json(obj: object) -> bytes:
    """The one byte string of a value: sorted keys, no spaces, UTF-8, strict. What digests are taken over."""
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with each NaN or infinity as None and a `KEY_note` that says which it was."""
    answer: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            answer[key] = None
            answer[f"{key}_note"] = f"not a number that JSON can carry: {value}"
        else:
            answer[key] = value
    return answer


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: Path) -> list[str]:
    """Names of all regular files below the folder, relative, with `/`, sorted; no temporary ones."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not is_temporary(path.name)
    )
