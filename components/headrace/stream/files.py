"""Files of a dataset, wherever they lie: opened for exact ranges, and told apart by what they hold."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from headrace.errors import ChangedSource
from headrace.stream.manifest import ManifestFile

TAIL_BYTES = 64 << 10
"""Read at once at the end of a file: most footers are shorter."""
SEQUENTIAL_BYTES = 4 << 20
TAIL = "tail:"
"""What the etag of a file begins with that is named by its last bytes alone."""
_PINNED = re.compile(r"hf://.*@[0-9a-f]{40}/")
_ASKING = threading.Lock()
ANEW = "the source changed: restore it, or start a new run on a new manifest"


def is_remote(uri: str) -> bool:
    """Whether reading a file goes over a network."""
    return "://" in uri and not uri.startswith(("file://", "memory://"))


def open_file(uri: str, size: int | None = None, *, sequential: bool = False) -> Any:
    """A file for random access: exact ranges, no read-ahead that would be thrown away unless it is read in sequence.

    `size`, where it is known, saves a server of plain HTTP the question, and the Hub a listing of the folder.
    """
    import fsspec

    pinned = _PINNED.match(uri) is not None
    fs, path = _pinned(uri) if pinned else fsspec.core.url_to_fs(uri)
    how: dict[str, Any] = {}
    if "file" not in fs.protocol:
        how = {"cache_type": "readahead", "block_size": SEQUENTIAL_BYTES} if sequential else {"cache_type": "none"}
    if size is not None and (pinned or "http" in fs.protocol):
        how["size"] = size
    return fs.open(path, "rb", **how)


def _pinned(uri: str) -> tuple[Any, str]:
    """The Hub's file system, the same for all threads, and a path in it.

    By itself each thread has one of its own, which asks the Hub anew whether the commit is there.
    """
    from huggingface_hub import constants

    with _ASKING:
        fs = _hub(constants.ENDPOINT)
        path = str(fs._strip_protocol(uri))
        fs.resolve_path(path)  # asks once a process; bounded by the client's own time limit
    return fs, path


@lru_cache(maxsize=4)
def _hub(endpoint: str) -> Any:
    from huggingface_hub import HfFileSystem

    class Files(HfFileSystem):
        """The Hub's files, of which a manifest holds the sizes."""

        def isdir(self, path: str) -> bool:
            """No: asked before every read, and answered otherwise from a listing of the folder."""
            return False

    return Files(endpoint=endpoint, skip_instance_cache=True)


def tail_of(raw: Any) -> bytes:
    """The last bytes of an open file, up to TAIL_BYTES of them."""
    raw.seek(max(0, raw.seek(0, 2) - TAIL_BYTES))
    data: bytes = raw.read()
    return data


def etag_of(info: Mapping[str, Any]) -> str:
    """What names the content of a remote file by its store's listing; empty where nothing does."""
    lfs = info.get("lfs") or {}
    for value in (lfs.get("sha256") if isinstance(lfs, Mapping) else getattr(lfs, "sha256", None), info.get("blob_id"),
                  info.get("generation"), info.get("etag"), info.get("ETag")):  # fmt: skip
        if value:
            return str(value).strip('"')
    return ""


def tail_etag(raw: Any) -> str:
    """What names the content of a file whose store does not: a digest of its last bytes."""
    return TAIL + hashlib.sha256(tail_of(raw)).hexdigest()[:32]


def check(file: ManifestFile, raw: Any) -> None:
    """ChangedSource unless an open file is the one that the manifest froze, by size and etag."""
    size = raw.seek(0, 2)
    if size != file.size:
        raise ChangedSource(f"{file.uri} has {size} bytes; the manifest froze {file.size}", ANEW)
    found = tail_etag(raw) if file.etag.startswith(TAIL) else _etag_now(file)
    if file.etag and found and found != file.etag:
        raise ChangedSource(
            f"{file.uri} was written anew: its etag is {found[:24]}; the manifest froze {file.etag[:24]}", ANEW
        )


def _etag_now(file: ManifestFile) -> str:
    import fsspec

    if _PINNED.match(file.uri):  # a commit's files never change
        return ""
    fs, path = fsspec.core.url_to_fs(file.uri)
    fs.invalidate_cache(path.rpartition("/")[0])
    return etag_of(fs.info(path))
