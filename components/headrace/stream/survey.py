"""What the files of a dataset hold, told before any is trained on: all footers, or those that the first rows need."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headrace.errors import DamagedData, InputError
from headrace.stream.columns import asked
from headrace.stream.files import is_remote
from headrace.stream.footers import Footers, Read
from headrace.stream.manifest import Manifest, ManifestFile, Part, RowGroups
from headrace.stream.order import SEGMENT_FILES
from headrace.stream.retry import retrying
from headrace.stream.shards import THREADS, Shards, open_shard
from headrace.stream.source import Source
from headrace.stream.unfit import Kind, Unfit

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileProblem:
    """Why a file cannot be trained on."""

    path: str
    kind: Kind
    message: str
    columns: tuple[str, ...] = ()
    remedy: str = ""


@dataclass(frozen=True)
class Survey:
    """A manifest of the files that can be read, and what is wrong with the others."""

    manifest: Manifest
    problems: tuple[FileProblem, ...]


Progress = Callable[[int, int], None]


def listed(sources: Sequence[tuple[Source, str, int]]) -> Manifest:
    """The manifest of some sources, each with its text column and weight, before any footer is read."""
    return Manifest(
        tuple(
            Part(
                name=s.name, config=s.config, split=s.split, revision=s.revision, text_column=column,
                format=s.format, options=dict(s.options), weight=weight,
                files=tuple(ManifestFile(f.path, f.uri, f.size, f.etag) for f in s.files),
            )
            for s, column, weight in sources
        )
    )  # fmt: skip


def survey(
    manifest: Manifest,
    *,
    extra: Sequence[str] = (),
    threads: int = THREADS,
    deadline_s: float = 600.0,
    progress: Progress | None = None,
    kept: Path | None = None,
) -> Survey:
    """Read every footer, in parallel; progress is called with (files done, files in all).

    kept: a folder that keeps what is read of many files; what it has is not read again.
    """

    def look(file: ManifestFile, part: Part) -> Read | FileProblem:
        if (unnamed := _unnamed(file)) is not None:
            return unnamed

        def once() -> Read:
            with closing(open_shard(file, part, (part.text_column, *extra))) as shard:
                shard.fits()
                return Read(shard.digest, shard.row_groups)

        try:
            return retrying(once, f"the footer of {file.uri}", deadline_s, remote=is_remote(file.uri))
        except Unfit as error:
            return FileProblem(file.path, error.kind, error.message, error.columns, error.remedy)
        except DamagedData as error:
            text = str(error.__cause__ or error).strip().splitlines()[0]
            return FileProblem(file.path, "unreadable", f"not a readable {part.format.capitalize()} file: {text}")
        except InputError as error:
            text = str(error.__cause__ or error).strip().splitlines()[0]
            return FileProblem(file.path, "unreadable", f"it cannot be read: {text}")

    problems: dict[int, FileProblem] = {}
    items = [(f, p) for p in manifest.parts for f in p.files]
    pool = ThreadPoolExecutor(threads, thread_name_prefix="headrace-footer")
    with Footers(kept, manifest, asked(extra)) as footers:
        found = footers.known
        waited = {pool.submit(look, *item): number for number, item in enumerate(items) if number not in found}
        try:
            for done in as_completed(waited):
                number, answer = waited.pop(done), done.result()
                if isinstance(answer, FileProblem):
                    problems[number] = answer
                else:
                    found[number] = answer
                    footers.add(number, answer)
                if progress is not None:
                    progress(len(found) + len(problems), len(items))
        finally:
            pool.shutdown(cancel_futures=True)  # whoever stops it does not wait for thousands of files

    def known(number: int, file: ManifestFile) -> ManifestFile | None:
        return (
            replace(file, footer=found[number].digest, row_groups=found[number].row_groups) if number in found else None
        )

    return Survey(manifest.mapped(known), tuple(problems[n] for n in sorted(problems)))


def build(manifest: Manifest, **how: Any) -> Manifest:
    """A listed manifest with all footers, or without where files are many: then they are read a segment at a time.

    InputError for the first file that cannot be trained on, or when there are no rows.
    """
    if len(manifest.files) > SEGMENT_FILES:
        _refuse([found for f in manifest.files if (found := _unnamed(f)) is not None])
        log.info("%d files: their footers are read when they are needed", len(manifest.files))
        return manifest
    return sound(survey(manifest, **how))


def sound(found: Survey) -> Manifest:
    """A survey's manifest; InputError for the first file that cannot be trained on, or when there are no rows."""
    _refuse(found.problems)
    if not found.manifest.rows:
        raise InputError(
            f"{found.manifest.name} has no rows in its {len(found.manifest.files)} files",
            "name a dataset, configuration and split that hold documents",
        )
    return found.manifest


def _refuse(problems: Sequence[FileProblem]) -> None:
    for problem in problems[:1]:
        raise Unfit(problem.kind, f"{problem.path}: {problem.message}", problem.columns, problem.remedy)


def _unnamed(file: ManifestFile) -> FileProblem | None:
    """What is wrong with a name that no report or manifest, which are UTF-8, can hold."""
    try:
        file.uri.encode()
    except UnicodeEncodeError:
        shown = file.path.encode("utf-8", "backslashreplace").decode()
        return FileProblem(shown, "unreadable", "its name is not UTF-8; give it another")
    return None


def first_rows(manifest: Manifest, limit: int, deadline_s: float = 600.0) -> Manifest:
    """The manifest cut to its first rows, reading the footers that hold them where they are not known."""
    shards = Shards(manifest, deadline_s=deadline_s)
    found: dict[int, RowGroups] = {}
    rows = 0
    for start in range(0, len(manifest.files), THREADS):
        numbers = range(start, min(start + THREADS, len(manifest.files)))
        found |= dict(zip(numbers, shards.row_groups(numbers), strict=True))
        rows = sum(g.rows for groups in found.values() for g in groups)
        if rows >= limit:
            break
    if rows <= limit and len(found) == len(manifest.files):
        return manifest
    return manifest.mapped(lambda i, f: replace(f, row_groups=found[i]) if i in found else None).first_rows(limit)
