"""Large row groups that many lanes share, decoded once a node to scratch and read from there in any order."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.errors import HeadraceError

log = logging.getLogger(__name__)

KEPT_BYTES = 16 << 30
"""Scratch that one dataset takes on a node; what was used longest ago goes first."""


class Spilled:
    """A row group in a scratch file: Arrow IPC, compressed, its batches found by their first rows."""

    def __init__(self, path: Path) -> None:
        self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        self._firsts = [0, *accumulate(json.loads(path.with_suffix(".json").read_text()))]

    def rows(self, start: int, end: int) -> pa.Table:
        """Rows start … end−1."""
        found = [
            self._file.get_batch(i).slice(max(0, start - first), min(end, then) - max(start, first))
            for i, (first, then) in enumerate(zip(self._firsts, self._firsts[1:], strict=False))
            if first < end and then > start
        ]
        return pa.Table.from_batches(found)


class Spill:
    """Scratch files of one dataset, shared by the processes of a node and of a user."""

    def __init__(self, folder: Path | None, name: str) -> None:
        self._folder = (folder or Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}") / name[:16]

        self._users: Any = None
        self._lock = threading.Lock()

    def open(self, name: str, read: Callable[[], Iterator[pa.Table]]) -> Spilled:
        """A row group by name, written now unless it is there."""
        path = self._folder / f"{name}.arrow"
        self._ready()
        while True:
            try:
                spilled = Spilled(path)
                os.utime(path)
                return spilled
            except FileNotFoundError:
                self._write(path, read)

    def _write(self, path: Path, read: Callable[[], Iterator[pa.Table]]) -> None:
        with (self._folder / f"{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go with the process, however it ends
            if path.exists():
                return
            self._make_room()
            log.info("writing a large row group that several lanes share to %s", path)
            temporary = path.with_suffix(".writing")
            try:
                _write(temporary, read())
            except OSError as error:
                temporary.unlink(missing_ok=True)
                if error.errno is None:
                    raise
                raise HeadraceError(
                    f"cannot write {temporary}: {error.strerror}", "make room there, or set TMPDIR to a larger disk"
                ) from error
            temporary.with_suffix(".json").replace(path.with_suffix(".json"))
            temporary.replace(path)

    def _ready(self) -> None:
        with self._lock:
            if self._users is None:
                self._claim()

    def _claim(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = self._folder.stat().st_uid
        if owner != os.getuid():
            raise HeadraceError(f"{self._folder} belongs to another user ({owner})", "set TMPDIR to a folder of yours")
        self._users = (self._folder / "users.lock").open("w")
        fcntl.flock(self._users, fcntl.LOCK_SH)
        weakref.finalize(self, _leave, self._folder, self._users)

    def _make_room(self) -> None:
        files = sorted(self._folder.glob("*.arrow"), key=lambda p: p.stat().st_mtime)
        size = sum(p.stat().st_size for p in files)
        while size > KEPT_BYTES and files:
            size -= files[0].stat().st_size
            files.pop(0).unlink(missing_ok=True)  # who has it open goes on reading it


def _write(path: Path, tables: Iterator[pa.Table]) -> None:
    """Batches as they come, and beside them how many rows each has."""
    counts: list[int] = []
    with pa.OSFile(str(path), "wb") as sink:
        writer = None
        for table in tables:
            for batch in table.combine_chunks().to_batches():
                if writer is None:
                    options = pa.ipc.IpcWriteOptions(compression="lz4")
                    writer = pa.ipc.new_file(sink, batch.schema, options=options)
                writer.write_batch(batch)
                counts.append(batch.num_rows)
        assert writer is not None, "a row group without rows is never read"
        writer.close()
    path.with_suffix(".json").write_text(json.dumps(counts))


def _leave(folder: Path, users: Any) -> None:
    """Remove the scratch of a dataset that no process reads from any more."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        shutil.rmtree(folder, ignore_errors=True)
    users.close()
