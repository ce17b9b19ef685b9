"""Google Cloud Storage as a store: generation preconditions, checked transfers, errors with remedies."""

from __future__ import annotations

import base64
import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import google_crc32c
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from headrace.artifacts.files import temporary_beside
from headrace.artifacts.storage import Store, checked_name
from headrace.errors import AlreadyExists, HeadraceError, InputError

# Connect and read; one attempt. Attempts together are bounded by the retry's own deadline.
_TIMEOUT_S = (10.0, 60.0)
_RETRY = DEFAULT_RETRY.with_timeout(120.0)
_CHECK_S = 10.0
_CHECK_RETRY = DEFAULT_RETRY.with_timeout(_CHECK_S - 2)


class GcsStore(Store):
    """Objects below `gs://bucket/prefix`; credentials are looked for at the first call, not before."""

    def __init__(self, bucket: str, prefix: str, clients: _Clients) -> None:
        self.bucket_name = bucket
        self.prefix = prefix
        self.uri = f"gs://{bucket}/{prefix}".rstrip("/")
        self._clients = clients

    @classmethod
    def open(cls, uri: str) -> GcsStore:
        """The store of a `gs://` URI."""
        parts = urlsplit(uri)
        # urlsplit cuts `?` and `#` off, which are legal in object names but never meant here.
        if not parts.netloc or parts.query or parts.fragment:
            raise InputError(f"{uri!r} is not a bucket and prefix; expected gs://bucket/prefix")
        prefix = parts.path.strip("/")
        if prefix:
            checked_name(prefix)
        return cls(parts.netloc, prefix, _Clients(os.environ.get("STORAGE_EMULATOR_HOST", "")))

    def child(self, *parts: str) -> GcsStore:
        names = [self.prefix] if self.prefix else []
        return GcsStore(self.bucket_name, "/".join([*names, *(checked_name(p) for p in parts)]), self._clients)

    def _bucket(self) -> Any:
        return self._clients.get().bucket(self.bucket_name)

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{checked_name(name)}" if self.prefix else checked_name(name)

    def _blob(self, name: str) -> Any:
        return self._bucket().blob(self._key(name))

    def write(self, name: str, data: bytes) -> None:
        with self._explained(f"write {name}"):
            self._blob(name).upload_from_string(data, timeout=_TIMEOUT_S, retry=_RETRY, checksum="crc32c")

    def write_once(self, name: str, data: bytes) -> None:
        with self._explained(f"write {name}"):
            blob = self._blob(name)
            try:
                blob.upload_from_string(
                    data, timeout=_TIMEOUT_S, retry=_RETRY, checksum="crc32c", if_generation_match=0
                )
            except api.PreconditionFailed as error:
                if not self._landed(blob, data):
                    raise AlreadyExists(f"{self.uri}/{name} exists already, with other content") from error

    def read_at(self, name: str) -> tuple[bytes, int] | None:
        with self._explained(f"read {name}"):
            blob = self._bucket().get_blob(self._key(name), timeout=_TIMEOUT_S, retry=_RETRY)
            if blob is None:
                return None
            try:
                data: bytes = blob.download_as_bytes(
                    timeout=_TIMEOUT_S, retry=_RETRY, checksum="crc32c", if_generation_match=blob.generation
                )
            except (api.NotFound, api.PreconditionFailed):  # replaced since: look again
                return self.read_at(name)
            return data, int(blob.generation)

    def replace(self, name: str, data: bytes, generation: int, *, deadline_s: float = 20.0) -> int:
        with self._explained(f"write {name}"):
            blob = self._blob(name)
            try:
                blob.upload_from_string(
                    data, timeout=_TIMEOUT_S, retry=DEFAULT_RETRY.with_timeout(deadline_s), checksum="crc32c",
                    if_generation_match=generation,
                )  # fmt: skip
            except api.PreconditionFailed as error:
                if not self._landed(blob, data):
                    raise AlreadyExists(f"{self.uri}/{name} was replaced by another writer") from error
            return int(blob.generation)

    def delete_at(self, name: str, generation: int) -> None:
        """Remove an object if it still has this generation."""
        with self._explained(f"delete {name}"):
            try:
                blob = self._bucket().get_blob(self._key(name), timeout=_TIMEOUT_S, retry=_RETRY)
                # Looked at first, as not every server honours the precondition of a removal.
                if blob is not None and int(blob.generation) == generation:
                    blob.delete(timeout=_TIMEOUT_S, retry=_RETRY, if_generation_match=generation)
            except (api.NotFound, api.PreconditionFailed):
                return

    @staticmethod
    def _landed(blob: Any, data: bytes) -> bool:
        """After a lost reply the client's own second attempt is refused although the first one landed."""
        try:
            blob.reload(timeout=_TIMEOUT_S, retry=_RETRY)
        except api.NotFound:
            return False
        return bool(blob.crc32c == _crc32c(google_crc32c.Checksum(data)) and blob.size == len(data))

    def same(self, name: str, path: Path) -> bool:
        with self._explained(f"look for {name}"):
            blob = self._bucket().get_blob(self._key(name), timeout=_TIMEOUT_S, retry=_RETRY)
        return blob is not None and _is_copy(blob, path)

    def read(self, name: str) -> bytes:
        with self._explained(f"read {name}", missing=name):
            data: bytes = self._blob(name).download_as_bytes(timeout=_TIMEOUT_S, retry=_RETRY, checksum="crc32c")
            return data

    def exists(self, name: str) -> bool:
        with self._explained(f"look for {name}"):
            return bool(self._blob(name).exists(timeout=_TIMEOUT_S, retry=_RETRY))

    def names(self, prefix: str = "") -> list[str]:
        return sorted(self._objects(prefix))

    def _objects(self, prefix: str = "") -> dict[str, Any]:
        """Objects by name, a request for each thousand."""
        base = f"{self.prefix}/" if self.prefix else ""
        with self._explained("list"):
            blobs = self._clients.get().list_blobs(
                self.bucket_name, prefix=base + prefix, timeout=_TIMEOUT_S, retry=_RETRY
            )
            # Consoles make empty objects that end in "/" to show folders.
            return {blob.name[len(base) :]: blob for blob in blobs if not blob.name.endswith("/")}

    def holding(self, folder: Path, names: Iterable[str]) -> set[str]:
        there = self._objects()
        return {name for name in names if name in there and _is_copy(there[name], folder / name)}

    def delete(self, name: str) -> None:
        with self._explained(f"delete {name}"):
            try:
                self._blob(name).delete(timeout=_TIMEOUT_S, retry=_RETRY)
            except api.NotFound:
                return

    def upload_file(self, path: Path, name: str) -> None:
        with self._explained(f"write {name}"):
            self._blob(name).upload_from_filename(str(path), timeout=_TIMEOUT_S, retry=_RETRY, checksum="crc32c")

    def download_file(self, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        try:
            with self._explained(f"read {name}", missing=name):
                self._blob(name).download_to_filename(
                    str(temporary), timeout=_TIMEOUT_S, retry=_RETRY, checksum="crc32c"
                )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def check_writable(self) -> None:
        # In a thread: the search for credentials may ask a metadata server, with time limits of its own.
        problems: list[Exception] = []
        thread = threading.Thread(target=self._probe, args=(problems,), daemon=True, name="headrace-check")
        thread.start()
        thread.join(_CHECK_S)
        if thread.is_alive():
            raise HeadraceError(
                f"{self.uri} did not answer within {_CHECK_S:.0f} s",
                "check the network from here to the bucket",
            )
        if problems:
            raise problems[0]

    def _probe(self, problems: list[Exception]) -> None:
        name = f".headrace-check-{secrets.token_hex(8)}"
        try:
            with self._explained("write"):
                blob = self._blob(name)
                blob.upload_from_string(b"", timeout=_CHECK_S / 2, retry=_CHECK_RETRY)
            with self._explained("delete what was written"):
                blob.delete(timeout=_CHECK_S / 2, retry=_CHECK_RETRY)
        except Exception as error:  # handed to the thread that asked
            problems.append(error)

    @contextmanager
    def _explained(self, action: str, missing: str = "") -> Iterator[None]:
        """Turn the client's errors into ours: those no retry can mend are InputError."""
        try:
            yield
        except api.NotFound as error:
            if missing and "bucket" not in str(error.message).lower():
                raise InputError(f"there is no {missing} in {self.uri}") from error
            raise InputError(
                f"cannot {action} in {self.uri}: there is no bucket {self.bucket_name!r}",
                "create the bucket or correct its name",
            ) from error
        except (api.Forbidden, api.Unauthorized) as error:
            raise InputError(
                f"cannot {action} in {self.uri}: the credentials in use are refused ({error.code})",
                "give this identity the role roles/storage.objectUser on the bucket",
            ) from error
        except auth.DefaultCredentialsError as error:
            raise InputError(
                f"cannot {action} in {self.uri}: there are no Google Cloud credentials here",
                "run `gcloud auth application-default login`, set GOOGLE_APPLICATION_CREDENTIALS, "
                "or give the pod a service account",
            ) from error
        except auth.TransportError as error:
            raise self._transient(action, error) from error
        except auth.GoogleAuthError as error:
            raise InputError(
                f"cannot {action} in {self.uri}: the Google Cloud credentials do not work: {error}",
                "renew them: `gcloud auth application-default login`, or a new key or service account",
            ) from error
        except (api.ServerError, api.TooManyRequests, api.RetryError) as error:
            raise self._transient(action, error) from error
        except api.GoogleAPICallError as error:
            raise InputError(f"cannot {action} in {self.uri}: the request is refused: {error}") from error
        except (DataCorruption, InvalidResponse, requests.RequestException, ConnectionError) as error:
            raise self._transient(action, error) from error

    def _transient(self, action: str, error: Exception) -> HeadraceError:
        return HeadraceError(
            f"cannot {action} in {self.uri}: {type(error).__name__}: {error}",
            "the store may be unreachable for now: run the same command again",
        )


def _crc32c(checksum: Any) -> str:
    """A checksum as Cloud Storage writes it."""
    return base64.b64encode(checksum.digest()).decode()


def _is_copy(blob: Any, path: Path) -> bool:
    if blob.size != path.stat().st_size:
        return False
    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            checksum.update(data)
    return bool(blob.crc32c == _crc32c(checksum))


class _Clients:
    """One client, made at first use and shared by a store and its children."""

    def __init__(self, emulator: str) -> None:
        self._emulator = emulator
        self._client: Any = None
        self._lock = threading.Lock()

    def get(self) -> Any:
        """The client; any number of threads may ask."""
        with self._lock:
            if self._client is None:
                if self._emulator:
                    self._client = storage.Client(project="emulator", credentials=AnonymousCredentials())
                else:
                    # Objects need no project; without this the client demands one that many identities lack.
                    self._client = storage.Client(project=None)
            return self._client
