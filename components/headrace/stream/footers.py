"""Footers that were read before, kept on disk as they come, so that a survey of many files goes on where it stopped."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from headrace.stream.files import TAIL
from headrace.stream.manifest import Manifest, RowGroups

log = logging.getLogger(__name__)

FEWEST_FILES = 129
"""Fewer are read again in seconds."""
FLUSHED_S = 1.0


class Read(NamedTuple):
    """What a file's footer said: the digest that names it, and its row groups."""

    digest: str
    row_groups: RowGroups


class Footers:
    """Footers of the files of one listing by their number; `add` keeps another.

    The file is named by the listing with the sizes and etags of its files, and by the columns that were asked for, so
    that a source that changed finds nothing. Kept are only files that are named by their content: Parquet, and others
    of which the store tells more than the last bytes. A folder that cannot be written, or cannot any more, is told of
    once, and nothing more is kept.
    """

    def __init__(self, folder: Path | None, manifest: Manifest, columns: Sequence[str]) -> None:
        self._manifest = manifest
        self._out: Any = None
        self._flushed = time.monotonic()
        self.known: dict[int, Read] = {}
        if folder is None or len(manifest.files) < FEWEST_FILES:
            return
        revisions = [p.revision for p in manifest.parts]
        name = sha256(json.dumps([manifest.hash, revisions, list(columns)]).encode()).hexdigest()[:32]
        path = folder / f"{name}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            whole = self._read(path) if path.is_file() else 0
            self._out = path.open("ab")
            self._out.truncate(whole)  # a line that was cut when the process was killed
        except OSError as error:
            self._give_up(error)
        if self.known:
            log.info("%d of %d footers were read before: %s", len(self.known), len(manifest.files), path)

    def _read(self, path: Path) -> int:
        """Take what was kept; the length of it up to the first line that is not whole."""
        whole = 0
        with path.open("rb") as lines:
            for line in lines:
                try:
                    number, digest, groups = json.loads(line)
                    if not line.endswith(b"\n") or not 0 <= number < len(self._manifest.files):
                        break
                    self.known[number] = Read(digest, RowGroups(groups))
                except (ValueError, TypeError):
                    break
                whole += len(line)
        return whole

    def add(self, number: int, found: Read) -> None:
        """Keep a footer, where it may be."""
        file, part = self._manifest.files[number], self._manifest.parts[self._manifest.part_number(number)]
        by_content = part.format == "parquet" or (file.etag and not file.etag.startswith(TAIL))
        if self._out is None or not by_content:
            return
        groups = found.row_groups.table.tolist()
        try:
            self._out.write(json.dumps([number, found.digest, groups], separators=(",", ":")).encode() + b"\n")
            if time.monotonic() - self._flushed > FLUSHED_S:
                self._out.flush()
                self._flushed = time.monotonic()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Say why nothing more is kept; what was written whole is found again."""
        log.warning("footers are not kept: %s (--manifest_cache names another folder, or none)", error)
        out, self._out = self._out, None
        if out is not None:
            with suppress(OSError):  # it tries once more to write what is left
                out.close()

    def __enter__(self) -> Footers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._out is not None:
            try:
                self._out.close()
            except OSError as failed:
                self._give_up(failed)


def default_folder() -> Path | None:
    """Where footers are kept unless told otherwise: in the user's cache folder; None for a user without a home."""
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(named) if named else Path.home() / ".cache") / "headrace" / "footers"
    except RuntimeError:
        return None
