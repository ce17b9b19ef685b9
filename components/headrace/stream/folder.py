"""A folder on this machine: what in it is data by its name, and what of that nobody would read or miss."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any, NamedTuple

from headrace.errors import InputError

FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".parquet": ("parquet", {}),
    ".jsonl": ("json", {}),
    ".json": ("json", {}),
    ".ndjson": ("json", {}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
    ".txt": ("text", {}),
    ".arrow": ("arrow", {}),
    ".xml": ("xml", {}),
}
"""Endings of files, and the reader of `datasets` for them with its options; the first four are read here."""
MAGIC = "*?["
"""What makes a glob of a name, unless there is something of that name."""
METADATA = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json")
"""What a dataset's folder may hold beside its data."""


class LeftOut(NamedTuple):
    """A file that is not read. path: in its folder."""

    path: str
    why: str


def left_out(folder: Path, taken: Set[str]) -> tuple[LeftOut, ...]:
    """The files of known endings in a folder that are not among those taken, by their paths in it.

    taken: paths in the folder that some split has. Hidden files, and what is no data by its name, are no data.
    """
    kinds = {_module(path) for path in taken}
    found = []
    for path in _files(folder):
        module = _module(path)
        if path in taken or module is None or path.rpartition("/")[2] in METADATA:
            continue
        if _ending(path.lower()) != _ending(path):
            found.append(LeftOut(path, "its ending is not in small letters"))
        elif module not in kinds:
            found.append(LeftOut(path, "it is of another format"))
        else:
            found.append(LeftOut(path, "it is of no split, by its name or by README.md"))
    return tuple(sorted(found))


def _files(folder: Path) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith((".", "__"))]
        for name in names:
            if not name.startswith((".", "__")):
                yield (Path(place) / name).relative_to(folder).as_posix()


def _ending(path: str) -> str:
    """The endings of a file, from that of its format on."""
    parts = Path(path).suffixes
    return "".join(parts[-2:] if parts and parts[-1].lower() in (".gz", ".zst") else parts[-1:])


def _module(path: str) -> str | None:
    ending = Path(_ending(path.lower())).name.removesuffix(".gz").removesuffix(".zst")
    return FORMATS[ending][0] if ending in FORMATS else None


def check_links(folder: Path) -> None:
    """InputError for a link to nothing that is named like data: resolvers pass over it without a word."""
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.exists() and set(path.suffixes) & {*FORMATS, ".gz", ".zst"}:
            raise InputError(
                f"{path} links to {path.readlink()}, where there is nothing", "mend the link, or remove it"
            )


def check_plain(folder: Path) -> None:
    """InputError for a folder that describes its files itself, which only `datasets` reads."""
    check_links(folder)
    card = folder / "README.md"
    if card.is_file() and re.search(r"^\s*(?:- )?data_files:", card.read_text("utf-8", "replace"), re.MULTILINE):
        raise InputError(
            f"{folder} has one of {MAGIC} in its path and names its files in README.md, which cannot be read",
            "rename the folder, or name the files by a glob",
        )
