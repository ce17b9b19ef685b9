"""The frozen answer to "which data": files with size and etag; once known, rows and text bytes of row groups."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError

VERSION = 2
ROW_GROUPS_WRITTEN = 200_000
"""A manifest of more row groups is written without them: they are read again, segment by segment."""


class RowGroup(NamedTuple):
    """Rows, and uncompressed bytes of the text column as its footer states them.

    offset: where it begins in a file of JSON lines, 0 elsewhere.
    """

    rows: int
    text_bytes: int
    offset: int = 0


class RowGroups(Sequence[RowGroup]):
    """The row groups of a file: int64 [row groups, 3], of which listings have tens of millions."""

    __slots__ = ("table",)

    def __init__(self, groups: Iterable[Sequence[int]] | NDArray[np.int64]) -> None:
        values = groups if isinstance(groups, np.ndarray) else np.array([[*g] for g in groups], np.int64)
        self.table: NDArray[np.int64] = values.reshape(-1, len(RowGroup._fields))

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, number: int) -> RowGroup: ...

    @overload
    def __getitem__(self, number: slice) -> RowGroups: ...

    def __getitem__(self, number: int | slice) -> RowGroup | RowGroups:
        found = self.table[number]
        return RowGroups(found) if isinstance(number, slice) else RowGroup(*found.tolist())

    def __iter__(self) -> Iterator[RowGroup]:
        return map(RowGroup._make, self.table.tolist())

    def __eq__(self, other: object) -> bool:
        return np.array_equal(self.table, other.table) if isinstance(other, RowGroups) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.table.tobytes())

    def __repr__(self) -> str:
        return f"RowGroups({list(self)})"


@dataclass(frozen=True)
class ManifestFile:
    """A file, and what its footer said where it was read. footer: hex digest of what its row groups follow from."""

    path: str
    uri: str
    size: int
    etag: str
    footer: str = ""
    row_groups: RowGroups | None = None

    @property
    def known(self) -> RowGroups:
        """Its row groups, which must be known."""
        if self.row_groups is None:
            raise ValueError(f"the row groups of {self.path} were not read")
        return self.row_groups


@dataclass(frozen=True, kw_only=True)
class Part:
    """One source. A mixture has several, each with a weight.

    format: parquet, json, or the name of another reader of `datasets`, which then takes `options`.
    """

    name: str
    config: str = ""
    split: str = "train"
    revision: str = ""
    text_column: str = "text"
    format: str = "parquet"
    options: Mapping[str, Any] = field(default_factory=dict)
    weight: int = 1
    files: tuple[ManifestFile, ...]


@dataclass(frozen=True)
class Manifest:
    """The dataset as it was when it was looked at; everything about the order follows from it.

    limit: rows used, the first ones, where not all of them are.
    """

    parts: tuple[Part, ...]
    limit: int | None = None

    @cached_property
    def files(self) -> tuple[ManifestFile, ...]:
        """The files of all parts, one part after another."""
        return tuple(f for p in self.parts for f in p.files)

    @cached_property
    def firsts(self) -> tuple[int, ...]:
        """The number of the first file of each part."""
        return tuple(accumulate((len(p.files) for p in self.parts[:-1]), initial=0))

    def part_number(self, file: int) -> int:
        """Which part a file belongs to."""
        return bisect_right(self.firsts, file) - 1

    def label(self, file: int) -> str:
        """A file's path, told apart from those of other parts."""
        path = self.files[file].path
        return path if len(self.parts) == 1 else f"{self.parts[self.part_number(file)].name}/{path}"

    @cached_property
    def sources(self) -> dict[str, int]:
        """The number of the part of each label; without labels that files of several parts have in common."""
        found: dict[str, set[int]] = {}
        for file in range(len(self.files)):
            found.setdefault(self.label(file), set()).add(self.part_number(file))
        return {label: numbers.pop() for label, numbers in found.items() if len(numbers) == 1}

    def _together(self, name: str) -> str:
        return " + ".join(dict.fromkeys(str(v) for p in self.parts if (v := getattr(p, name))))

    @property
    def name(self) -> str:
        """What the user named."""
        return self._together("name")

    @property
    def config(self) -> str:
        """Configurations of Hub datasets."""
        return self._together("config")

    @property
    def split(self) -> str:
        """Splits."""
        return self._together("split")

    @property
    def revision(self) -> str:
        """Pinned commits of Hub datasets."""
        return self._together("revision")

    @property
    def text_column(self) -> str:
        """Columns that hold the text."""
        return self._together("text_column")

    @property
    def known(self) -> bool:
        """Whether the row groups of every file are."""
        return all(f.row_groups is not None for f in self.files)

    @cached_property
    def rows(self) -> int:
        """Rows in all row groups, blank ones included; they must be known."""
        return sum(int(f.known.table[:, 0].sum()) for f in self.files)

    @cached_property
    def text_bytes(self) -> int:
        """Uncompressed bytes of the text column; an estimate where it is dictionary-encoded."""
        return sum(int(f.known.table[:, 1].sum()) for f in self.files)

    @cached_property
    def row_groups(self) -> int:
        """Row groups in all files."""
        return sum(len(f.known) for f in self.files)

    @cached_property
    def hash(self) -> str:
        """Hex SHA-256 of which files these are, whether or not their footers were read."""
        content = [
            self.limit,
            [
                [p.text_column, p.format, dict(p.options), [[f.path, f.size, f.etag] for f in p.files]]
                for p in self.parts
            ],
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def mapped(self, change: Callable[[int, ManifestFile], ManifestFile | None]) -> Manifest:
        """The manifest with each file, told by its number, changed or left out."""
        parts = []
        for part, first in zip(self.parts, self.firsts, strict=True):
            changed = (change(i, f) for i, f in enumerate(part.files, first))
            parts.append(replace(part, files=tuple(f for f in changed if f is not None)))
        return replace(self, parts=tuple(parts))

    def first_rows(self, limit: int) -> Manifest:
        """The manifest of the first `limit` rows in manifest order; the row groups that hold them must be known."""
        left = limit

        def cut(_: int, file: ManifestFile) -> ManifestFile | None:
            nonlocal left
            if not left:
                return None
            groups: list[RowGroup] = []
            for group in file.known:
                take = min(group.rows, left)
                groups.append(group._replace(rows=take, text_bytes=group.text_bytes * take // max(1, group.rows)))
                left -= take
                if not left:
                    break
            return replace(file, row_groups=RowGroups(groups))

        return replace(self.mapped(cut), limit=limit)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back, without row groups where there are very many."""
        few = sum(len(f.row_groups or ()) for f in self.files) <= ROW_GROUPS_WRITTEN or self.limit is not None
        kept = self if few else self.mapped(lambda _, f: replace(f, row_groups=None))
        value = {"version": VERSION, "hash": self.hash, **asdict(kept)}
        for file in (f for part in value["parts"] for f in part["files"] if f["row_groups"] is not None):
            file["row_groups"] = file["row_groups"].table.tolist()
        return {**value, "checksum": _checksum(value)}

    @classmethod
    def from_json(cls, value: Any) -> Manifest:
        """The manifest in a JSON object; InputError when it is not one, or was edited."""
        try:
            if value["version"] != VERSION:
                raise InputError(
                    f"the manifest has version {value['version']!r}; this Headrace reads version {VERSION}",
                    "run `headrace validate` again",
                )
            parts = tuple(Part(**{**p, "files": tuple(_file(f) for f in p["files"])}) for p in value["parts"])
            manifest = cls(parts, value["limit"])
            found = manifest.hash
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"this is not a manifest: {error!r}", "run `headrace validate` to make one") from error
        written = {k: v for k, v in value.items() if k != "checksum"}
        if found != value.get("hash") or _checksum(written) != value.get("checksum"):
            raise InputError("the manifest was changed after it was written", "run `headrace validate` again")
        return manifest


def _checksum(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _file(value: Mapping[str, Any]) -> ManifestFile:
    groups = value["row_groups"]
    return ManifestFile(**{**value, "row_groups": None if groups is None else RowGroups(groups)})


def places(manifest: Manifest) -> Iterator[tuple[int, int]]:
    """(file, row group) of every row group, in manifest order; they must be known."""
    for i, file in enumerate(manifest.files):
        for j in range(len(file.known)):
            yield i, j
