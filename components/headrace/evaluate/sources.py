"""From which source of a mixture each document is, by a name that tells it from the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.stream.addresses import without_secrets

UNKNOWN = "unknown"
_TOLD_BY = ("config", "split", "revision")
_SHORT = 12


def sources(files: Sequence[str], parts: Sequence[Mapping[str, Any]], numbers: Mapping[str, int]) -> tuple[str, ...]:
    """The source of each file, given by its label in the manifest; `all` where nothing is known of any.

    parts: name and, where known, config, split and revision of each source. numbers: of labels, as far as known, the
    number of the part. Of another label the name of a source that it begins with, which several may have in common.
    """
    names = [without_secrets(str(part["name"])) for part in parts]
    if len(names) < 2:
        return (names[0] if names else "all",) * len(files)
    told = _told_apart(names, parts)
    return tuple(told[numbers[file]] if file in numbers else _by_name(file, names) for file in files)


def _told_apart(names: Sequence[str], parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names, with what differs between sources of one name behind it, or their number where nothing does."""
    found = []
    for name, part in zip(names, parts, strict=True):
        same = [p for n, p in zip(names, parts, strict=True) if n == name]
        differing = [key for key in _TOLD_BY if len({p.get(key) or "" for p in same}) > 1]
        facts = [str(part[key])[:_SHORT] if key == "revision" else str(part[key]) for key in differing if part.get(key)]
        found.append(f"{name} ({', '.join(facts)})" if facts else name)
    return [name if found.count(name) == 1 else f"{name} (source {number})" for number, name in enumerate(found, 1)]


def _by_name(file: str, names: Sequence[str]) -> str:
    # The names have lost their secrets, in a training's record for good: so must the file have.
    bare = without_secrets(file)
    longest = sorted(names, key=len, reverse=True)
    return next((name for name in longest if bare == name or bare.startswith(f"{name}/")), UNKNOWN)
