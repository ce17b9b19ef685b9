"""One small interface to the places where runs keep files: a folder or a Google Cloud Storage prefix."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from headrace.artifacts.files import files_below, sha256_file, sync_folder, temporary_beside, write_bytes
from headrace.errors import AlreadyExists, HeadraceError, InputError

# Written after everything else, so that whoever sees it may trust that the rest is there.
LAST = "commit.json"
_PARALLEL = 4


JOB = "{job}"


def of_job(place: str, job: str) -> str:
    """A place whose `{job}` stands for the id of a pipeline run, so that each run of a schedule has one of its own.

    InputError when there is no such id.
    """
    if JOB in place and not job:
        raise InputError(f"{place} has {JOB} in it, which only a pipeline's run has", "write a name of your own there")
    return place.replace(JOB, job)


def open_store(uri: str) -> Store:
    """The store behind a path, `file://` or `gs://bucket/prefix`; touches neither disk nor network."""
    scheme = urlsplit(uri).scheme if "://" in uri else ""
    if scheme == "gs":
        from headrace.artifacts.gcs import GcsStore

        return GcsStore.open(uri)
    if scheme == "file":
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            raise InputError(
                f"{uri} names the host {parts.netloc!r}; a file URI must be of this machine",
                "write file:///absolute/path, with three slashes",
            )
        return LocalStore(Path(unquote(parts.path)))
    if scheme or not uri:
        raise InputError(
            f"cannot keep files in {uri!r}; expected a folder, file:///folder or gs://bucket/prefix",
            "data may be read from other places, but checkpoints and results are kept in one of these",
        )
    return LocalStore(Path(uri))


def checked_name(name: str) -> str:
    """The name, when it is relative and stays below its store; InputError otherwise."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or name != "/".join(parts):
        raise InputError(f"{name!r} is not the name of a file in a store; expected a plain relative path")
    return name


class Store(ABC):
    """A flat set of named files below one URI; names use `/`."""

    uri: str

    @abstractmethod
    def child(self, *parts: str) -> Store:
        """The store one or more levels down."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Put a file there, whole or not at all, replacing any of that name."""

    @abstractmethod
    def write_once(self, name: str, data: bytes) -> None:
        """Put a file there unless one of that name exists; of racing writers one wins.

        AlreadyExists when another content is there. The same content counts as written: that is what a lost
        reply looks like. So writers that must exclude each other put something of their own into `data`.
        """

    @abstractmethod
    def read_at(self, name: str) -> tuple[bytes, int] | None:
        """A file's bytes and its generation, which names this content; None when there is none of that name."""

    @abstractmethod
    def replace(self, name: str, data: bytes, generation: int, *, deadline_s: float = 20.0) -> int:
        """Put a file in the place of one generation of it, 0 for none; the new generation.

        Of racing writers one wins; AlreadyExists when another generation is there with other content. No two
        writers may put the same content: it counts as written, as with `write_once`.
        """

    @abstractmethod
    def same(self, name: str, path: Path) -> bool:
        """Whether a file there has the content of a local one, as its digest says; False when it is missing."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The file's bytes; InputError when there is none of that name."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether a file of that name is there now."""

    @abstractmethod
    def names(self, prefix: str = "") -> list[str]:
        """Names of all files that begin with `prefix`, sorted."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file; none of that name is no error."""

    @abstractmethod
    def upload_file(self, path: Path, name: str) -> None:
        """Put a copy of a local file there, whole or not at all."""

    @abstractmethod
    def download_file(self, name: str, path: Path) -> None:
        """Make a local copy of a file, whole or not at all; InputError when there is none of that name."""

    @abstractmethod
    def check_writable(self) -> None:
        """Write and remove a small file; an error within some ten seconds, InputError when it is refused."""

    def holding(self, folder: Path, names: Iterable[str]) -> set[str]:
        """Those of a local folder's files that are here already, as far as the place keeps digests to tell by."""
        return set()

    def upload_folder(self, folder: Path, progress: Callable[[int], None] | None = None) -> list[str]:
        """Upload every file below a folder that is not there yet, `commit.json` after all others; the names, sorted.

        `progress` is called in this thread with the size in bytes of each file that has arrived.
        """
        names = files_below(folder)
        sizes = {name: (folder / name).stat().st_size for name in names}
        there = self.holding(folder, names)
        if progress is not None:
            for name in sorted(there - {LAST}):
                progress(sizes[name])
        self._each(
            lambda name: self.upload_file(folder / name, name),
            [n for n in names if n != LAST and n not in there],
            progress,
            sizes,
        )
        if LAST in sizes:
            self.write_once(LAST, (folder / LAST).read_bytes())
            if progress is not None:
                progress(sizes[LAST])
        return names

    def download_folder(self, target: Path, names: Iterable[str] | None = None) -> None:
        """Copy the named files (default: all) below `target`."""
        wanted = [checked_name(name) for name in (self.names() if names is None else names)]
        self._each(lambda name: self.download_file(name, target / name), wanted, None, {})

    @staticmethod
    def _each(
        transfer: Callable[[str], None],
        names: list[str],
        progress: Callable[[int], None] | None,
        sizes: dict[str, int],
    ) -> None:
        pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="headrace-transfer")
        try:
            under_way: dict[Future[None], str] = {pool.submit(transfer, name): name for name in names}
            for done in as_completed(under_way):
                done.result()
                if progress is not None:
                    progress(sizes[under_way[done]])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class LocalStore(Store):
    """A folder, made when first written to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self.uri = str(self.folder)

    def child(self, *parts: str) -> LocalStore:
        return LocalStore(self.folder.joinpath(*(checked_name(part) for part in parts)))

    def _path(self, name: str) -> Path:
        return self.folder / checked_name(name)

    def write(self, name: str, data: bytes) -> None:
        write_bytes(self._path(name), data)

    def write_once(self, name: str, data: bytes) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # A link appears with its whole content, and only when the name is free; renaming would replace.
            os.link(temporary, path)
        except FileExistsError as error:
            if path.read_bytes() != data:
                raise AlreadyExists(f"{path} exists already, with other content") from error
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)

    def read_at(self, name: str) -> tuple[bytes, int] | None:
        try:
            data = self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"cannot read {name} in {self.uri}: {error.strerror}") from error
        return data, int.from_bytes(hashlib.sha256(data).digest()[:8]) | 1  # never 0, which is none

    def replace(self, name: str, data: bytes, generation: int, *, deadline_s: float = 20.0) -> int:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock"), deadline_s):
            now = self.read_at(name)
            if (now[1] if now else 0) != generation and (now is None or now[0] != data):
                raise AlreadyExists(f"{path} was replaced by another writer")
            write_bytes(path, data)
        written = self.read_at(name)
        assert written is not None
        return written[1]

    def same(self, name: str, path: Path) -> bool:
        there = self._path(name)
        return (
            there.is_file() and there.stat().st_size == path.stat().st_size and sha256_file(there) == sha256_file(path)
        )

    def read(self, name: str) -> bytes:
        try:
            return self._path(name).read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {name} in {self.uri}: {error.strerror}") from error

    def exists(self, name: str) -> bool:
        return self._path(name).is_file()

    def names(self, prefix: str = "") -> list[str]:
        return [name for name in files_below(self.folder) if name.startswith(prefix)]

    def delete(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def upload_file(self, path: Path, name: str) -> None:
        _copy(path, self._path(name))

    def download_file(self, name: str, path: Path) -> None:
        try:
            _copy(self._path(name), path)
        except FileNotFoundError as error:
            raise InputError(f"there is no {name} in {self.uri}") from error

    def check_writable(self) -> None:
        nearest = self.folder
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        try:
            with tempfile.TemporaryFile(dir=nearest) as file:
                file.write(b"headrace")
        except OSError as error:
            raise InputError(
                f"cannot write in {self.uri}: {nearest}: {error.strerror}",
                f"name a folder that user {os.getuid()} may write to, on a disk with free space",
            ) from error


@contextmanager
def locked(path: Path, deadline_s: float) -> Iterator[None]:
    """Hold a lock that the kernel drops with this process; HeadraceError when another keeps it for so long."""
    end = time.monotonic() + deadline_s
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise HeadraceError(
                        f"{path} is locked by another process for {deadline_s:.0f} s",
                        "wait for its end or stop it, then run again",
                    ) from None
                time.sleep(0.02)
            except OSError as error:  # file systems without locks
                raise InputError(
                    f"{path} cannot be locked: {error.strerror}", "publish to a disk of this machine, or to gs://"
                ) from error
        yield


def _copy(source: Path, target: Path) -> None:
    if target.exists() and source.samefile(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(target)
    try:
        with source.open("rb") as reader, temporary.open("xb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)
