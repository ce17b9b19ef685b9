"""The frozen answer to "which data": files with size and etag, and of each row group its rows and text bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.errors import InputError
from headrace.stream.retry import retrying
from headrace.stream.source import Source, SourceFile, nearest

VERSION = 1
TAIL_BYTES = 64 << 10
"""Read at once at the end of a file: most footers are shorter."""


class RowGroup(NamedTuple):
    """Rows, and uncompressed bytes of the text column as its footer states them."""

    rows: int
    text_bytes: int


@dataclass(frozen=True)
class ManifestFile:
    """A file and what its footer said. footer: hex SHA-256 of its footer's bytes."""

    path: str
    uri: str
    size: int
    etag: str
    footer: str
    row_groups: tuple[RowGroup, ...]


@dataclass(frozen=True)
class Manifest:
    """The dataset as it was when it was looked at; everything about the order follows from it."""

    name: str
    config: str
    split: str
    revision: str
    text_column: str
    files: tuple[ManifestFile, ...]

    @cached_property
    def rows(self) -> int:
        """Rows in all row groups, blank ones included."""
        return sum(g.rows for f in self.files for g in f.row_groups)

    @cached_property
    def text_bytes(self) -> int:
        """Uncompressed bytes of the text column; an estimate where it is dictionary-encoded."""
        return sum(g.text_bytes for f in self.files for g in f.row_groups)

    @cached_property
    def row_groups(self) -> int:
        """Row groups in all files."""
        return sum(len(f.row_groups) for f in self.files)

    @cached_property
    def hash(self) -> str:
        """Hex SHA-256 of what the data is, not of where it lies: a copied dataset has the same."""
        content = [
            self.text_column,
            [[f.path, f.size, f.footer, [list(g) for g in f.row_groups]] for f in self.files],
        ]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    def first_rows(self, limit: int) -> Manifest:
        """The manifest of the first `limit` rows in manifest order."""
        files: list[ManifestFile] = []
        left = limit
        for file in self.files:
            if not left:
                break
            groups: list[RowGroup] = []
            for group in file.row_groups:
                take = min(group.rows, left)
                groups.append(RowGroup(take, group.text_bytes * take // max(1, group.rows)))
                left -= take
                if not left:
                    break
            files.append(replace(file, row_groups=tuple(groups)))
        return replace(self, files=tuple(files))

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back."""
        return {"version": VERSION, "hash": self.hash, **asdict(self)}

    @classmethod
    def from_json(cls, value: Any) -> Manifest:
        """The manifest in a JSON object; InputError when it is not one, or was edited."""
        try:
            if value["version"] != VERSION:
                raise InputError(
                    f"the manifest has version {value['version']!r}; this Headrace reads version {VERSION}",
                    "run `headrace validate` again",
                )
            files = tuple(
                ManifestFile(**{**f, "row_groups": tuple(RowGroup(*g) for g in f["row_groups"])})
                for f in value["files"]
            )
            manifest = cls(
                **{k: str(value[k]) for k in ("name", "config", "split", "revision", "text_column")},
                files=files,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"this is not a manifest: {error!r}", "run `headrace validate` to make one") from error
        if manifest.hash != value.get("hash"):
            raise InputError(
                f"the manifest was changed after it was written: its hash is {manifest.hash}; "
                f"it records {value.get('hash')}",
                "run `headrace validate` again",
            )
        return manifest


@dataclass(frozen=True)
class FileProblem:
    """Why a file cannot be trained on."""

    path: str
    kind: Literal["unreadable", "missing-column", "wrong-type"]
    message: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """A manifest of the files that can be read, and what is wrong with the others."""

    manifest: Manifest
    problems: tuple[FileProblem, ...]


def survey(
    source: Source,
    text_column: str,
    *,
    threads: int = 8,
    deadline_s: float = 600.0,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Read every footer, in parallel; progress is called with (files done, files in all)."""

    def look(file: SourceFile) -> ManifestFile | FileProblem:
        return _look(file, text_column, deadline_s)

    files: list[ManifestFile] = []
    problems: list[FileProblem] = []
    with ThreadPoolExecutor(threads, thread_name_prefix="headrace-footer") as pool:
        for done, answer in enumerate(pool.map(look, source.files), 1):
            if isinstance(answer, FileProblem):
                problems.append(answer)
            else:
                files.append(answer)
            if progress is not None:
                progress(done, len(source.files))
    manifest = Manifest(source.name, source.config, source.split, source.revision, text_column, tuple(files))
    return Survey(manifest, tuple(problems))


def build(source: Source, text_column: str, **how: Any) -> Manifest:
    """The manifest of a source; InputError for the first file that cannot be trained on, or when there are no rows."""
    found = survey(source, text_column, **how)
    if found.problems:
        raise InputError(*explain(found.problems[0]))
    if not found.manifest.rows:
        raise InputError(
            f"{source.name} has no rows in its {len(source.files)} files",
            "name a dataset, configuration and split that hold documents",
        )
    return found.manifest


def explain(problem: FileProblem) -> tuple[str, str]:
    """Message and remedy of a file's problem."""
    remedies = {
        "unreadable": "replace the file, or leave it out of --dataset_name",
        "missing-column": "set --dataset_text_field",
        "wrong-type": "set --dataset_text_field to a column of text",
    }
    return f"{problem.path}: {problem.message}", remedies[problem.kind]


def _look(file: SourceFile, column: str, deadline_s: float) -> ManifestFile | FileProblem:
    try:
        metadata, digest = read_footer(file.uri, deadline_s)
    except InputError as error:
        text = str(error.__cause__ or error).strip().splitlines()[0]
        return FileProblem(file.path, "unreadable", f"not a readable Parquet file: {text}")
    schema = metadata.schema.to_arrow_schema()
    names = tuple(str(n) for n in schema.names)
    if column not in names:
        return FileProblem(file.path, "missing-column", f"no column {column!r}{nearest(column, names)}", names)
    kind = schema.field(column).type
    if not is_text(kind):
        texts = tuple(f.name for f in schema if is_text(f.type))
        there = f"; columns of text: {', '.join(texts)}" if texts else ""
        return FileProblem(file.path, "wrong-type", f"the column {column!r} holds {kind}, expected text{there}", names)
    groups = tuple(_group(metadata.row_group(i), column) for i in range(metadata.num_row_groups))
    return ManifestFile(file.path, file.uri, file.size, file.etag, digest, groups)


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is text, also where it is dictionary-encoded."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def _group(group: Any, column: str) -> RowGroup:
    size = next(
        c.total_uncompressed_size
        for c in (group.column(i) for i in range(group.num_columns))
        if c.path_in_schema == column
    )
    return RowGroup(group.num_rows, size)


def open_file(uri: str) -> Any:
    """A file for random access: exact ranges, no read-ahead that would be thrown away."""
    import fsspec

    fs, path = fsspec.core.url_to_fs(uri)
    return fs.open(path, "rb", **({} if "file" in fs.protocol else {"cache_type": "none"}))


class Footer(NamedTuple):
    """The pyarrow FileMetaData of a file, and the hex SHA-256 of the bytes it was read from."""

    metadata: Any
    digest: str


def read_footer(uri: str, deadline_s: float) -> Footer:
    """The footer of a file, from one read of its last bytes where it is short."""

    def once() -> Footer:
        with open_file(uri) as raw:
            return footer_of(raw)

    return retrying(once, f"the footer of {uri}", deadline_s)


def footer_of(raw: Any) -> Footer:
    """The footer of an open file; pyarrow's ArrowInvalid when it does not end as Parquet does."""
    size = raw.seek(0, 2)
    raw.seek(max(0, size - TAIL_BYTES))
    tail = raw.read()
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if size < 12 or tail[-4:] != b"PAR1" or length > size - 4:
        raise pa.ArrowInvalid("it does not end with a Parquet footer; it may be cut short")
    if length > len(tail):
        raw.seek(size - length)
        tail = raw.read(length)
    footer = tail[-length:]
    return Footer(pq.read_metadata(pa.BufferReader(footer)), hashlib.sha256(footer).hexdigest())


def places(manifest: Manifest) -> Iterator[tuple[int, int]]:
    """(file, row group) of every row group, in manifest order."""
    for i, file in enumerate(manifest.files):
        for j in range(len(file.row_groups)):
            yield i, j
