"""One live run a place: a lock that the kernel holds for a folder, a lease that is renewed for a bucket.

Whether a lease is still alive is judged by watching it, never by comparing the clocks of two machines: an owner that
does not renew it for its whole time, as this machine counts it, is dead.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import IO, Any

from headrace.artifacts.files import canonical_json
from headrace.artifacts.gcs import GcsStore
from headrace.artifacts.storage import LocalStore, Store
from headrace.errors import AlreadyExists, HeadraceError, InputError, Taken

log = logging.getLogger(__name__)

LOCK, LEASE = ".headrace.lock", "lease.json"
SECONDS = 60.0
"""How long a lease holds after its last renewal; it is renewed three times as often, each time within 20 s."""


class Lease(ABC):
    """What keeps other runs out of a place until it is released."""

    @abstractmethod
    def release(self) -> None:
        """Let others in; again is no error."""


def hold(store: Store, run_id: str | None, *, lost: Callable[[HeadraceError], None], seconds: float = SECONDS) -> Lease:
    """Keep a place for this run, or raise Taken naming the run that has it.

    In a bucket a lease of the same run (or any, without a run_id) is watched for its time and taken over unless it is
    renewed meanwhile. `lost` is called, in another thread, when the lease could not be kept.
    """
    if isinstance(store, LocalStore):
        return _Lock(store, run_id)
    if isinstance(store, GcsStore):
        return _Bucket(store, run_id, lost, seconds)
    raise TypeError(f"no lease is kept in a {type(store).__name__}")


def _owner(run_id: str | None) -> dict[str, Any]:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return {"run_id": run_id, "host": socket.gethostname(), "pid": os.getpid(), "started": started}


def _taken(place: str, owner: Mapping[str, Any], remedy: str) -> Taken:
    run = f"the run {owner['run_id']}" if owner.get("run_id") else "a run"
    return Taken(
        f"{place} is in use by {run}: process {owner.get('pid')} on {owner.get('host')}, since {owner.get('started')}",
        remedy,
    )


class _Lock(Lease):
    def __init__(self, store: LocalStore, run_id: str | None) -> None:
        store.folder.mkdir(parents=True, exist_ok=True)
        path = store.folder / LOCK
        self._file: IO[str] | None = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            owner = _parsed(path.read_bytes())
            raise _taken(
                str(store.folder), owner, "wait for its end or stop it, or name another --output_dir"
            ) from None
        except OSError as error:  # file systems without locks
            log.warning("%s cannot be locked (%s): see to it that no other run writes there", store.folder, error)
        self._file.truncate(0)
        self._file.write(json.dumps(_owner(run_id)))
        self._file.flush()

    def release(self) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


class _Bucket(Lease):
    def __init__(
        self, store: GcsStore, run_id: str | None, lost: Callable[[HeadraceError], None], seconds: float
    ) -> None:
        self._store, self._lost, self._seconds = store, lost, seconds
        self._owner = {**_owner(run_id), "token": secrets.token_hex(8), "renewed": 0}
        self._ended = threading.Event()
        self._generation = self._acquire(run_id)
        self._thread = threading.Thread(target=self._keep, daemon=True, name="headrace-lease")
        self._thread.start()

    def _acquire(self, run_id: str | None) -> int:
        found = self._store.read_at(LEASE)
        if found is not None:
            owner = _parsed(found[0])
            if run_id is not None and owner.get("run_id") not in (None, run_id):
                raise self._in_use(owner)
            self._watch(found[1], owner)
        try:
            return self._store.replace(LEASE, self._data(), found[1] if found else 0)
        except AlreadyExists:
            now = self._store.read_at(LEASE)
            raise self._in_use(_parsed(now[0]) if now else {}) from None

    def _watch(self, generation: int, owner: Mapping[str, Any]) -> None:
        """Wait out another's lease; Taken when it is renewed."""
        log.info("%s has a lease of %s; waiting %.0f s for it to lapse", self._store.uri, owner, self._seconds)
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            time.sleep(min(2.0, self._seconds / 10))
            now = self._store.read_at(LEASE)
            if now is None or now[1] != generation:
                if now is None:
                    return
                raise self._in_use(_parsed(now[0]))

    def _in_use(self, owner: Mapping[str, Any]) -> Taken:
        remedy = (
            f"wait for its end or stop it (its lease lapses {self._seconds:.0f} s after that), or name another --store"
        )
        return _taken(self._store.uri, owner, remedy)

    def _data(self) -> bytes:
        return canonical_json(self._owner)

    def _keep(self) -> None:
        kept = time.monotonic()
        while not self._ended.wait(self._seconds / 3):
            self._owner["renewed"] += 1
            while True:
                try:
                    self._generation = self._store.replace(LEASE, self._data(), self._generation)
                    kept = time.monotonic()
                    break
                except AlreadyExists:
                    self._lost(Taken(f"another run took {self._store.uri} over", "stop one of the two"))
                    return
                except InputError as error:
                    self._lost(error)
                    return
                except HeadraceError as error:
                    if time.monotonic() - kept > self._seconds:
                        self._lost(HeadraceError(f"the lease of {self._store.uri} has lapsed: {error.message}"))
                        return
                    if self._ended.wait(self._seconds / 30):
                        return

    def release(self) -> None:
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join(5.0)
        try:
            self._store.delete_at(LEASE, self._generation)
        except HeadraceError as error:
            log.warning("the lease of %s stays until it lapses: %s", self._store.uri, error.message)
