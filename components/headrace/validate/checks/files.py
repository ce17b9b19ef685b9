"""Checks of what the data is stored in: files, row groups, formats."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from headrace.artifacts.report_format import count, significant, size
from headrace.stream.folder import LeftOut
from headrace.stream.jsonl import COMPRESSED
from headrace.stream.manifest import Manifest
from headrace.stream.plan import Plan
from headrace.stream.survey import FileProblem
from headrace.validate.checks.wording import FILES_NAMED, some, things
from headrace.validate.findings import Finding
from headrace.validate.forecast import Reading
from headrace.validate.scan import Scan
from headrace.validate.shown import is_name, named

LARGE_ROW_GROUP = 64 << 20
SMALL_ROW_GROUP = 64 << 10
MANY_ROW_GROUPS = 1_000
AMPLIFIED = 2.0

_PROBLEMS = {
    "unreadable": ("unreadable-file", "cannot be read", "Replace these files, or leave them out of --dataset_name."),
    "missing-column": ("missing-column", "lack the text column", "Set --dataset_text_field to a column they all have."),
    "wrong-type": ("wrong-type", "hold another type than is wanted", "Set --dataset_text_field to a column of text."),
}
_LISTED = re.compile(r" \(nearest: .*\)$|; columns of text: .*$", re.DOTALL)


def schema(problems: Sequence[FileProblem], files: int) -> Iterator[Finding]:
    """No-go for files that cannot be read or lack a column of text."""
    for kind, (code, what, remedy) in _PROBLEMS.items():
        found = [p for p in problems if p.kind == kind]
        if found:
            said = [f"{p.path}: {_without_data(p)}" for p in found[:FILES_NAMED]]
            which = f"{said[0].rstrip('.')}."
            columns, hidden = named({c for p in found for c in p.columns})
            yield Finding(
                code=code,
                severity="no-go",
                message=which if files == 1 else f"{len(found)} of {files} files {what}. {which}",
                evidence={
                    "files": len(found),
                    "examples": said,
                    **({"columns": columns} if columns else {}),
                    **({"columns_not_shown": hidden} if hidden else {}),
                },
                consequence="Training would stop when it reaches one of them.",
                remedy=_sentence(found[0].remedy) or remedy,
            )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _without_data(problem: FileProblem) -> str:
    """What is wrong with a file, without the names that it lists of columns where some are data."""
    if all(map(is_name, problem.columns)):
        return problem.message
    return _LISTED.sub("", problem.message)


def data(found: Scan) -> Iterator[Finding]:
    """No-go for row groups whose data is damaged although their footers are well."""
    if found.unreadable:
        places = [str(u) for u in found.unreadable]
        yield Finding(
            code="unreadable-rows",
            severity="no-go",
            message=f"{things(len(places), 'row group')} cannot be read. {places[0]}.",
            evidence={"row_groups": len(places), "examples": places[:FILES_NAMED]},
            consequence="Training would stop when it reaches them.",
            remedy="Replace these files, or leave them out of --dataset_name.",
        )


def budget(manifest: Manifest, found: Scan) -> Iterator[Finding]:
    """A note when only a sample was looked at."""
    if not found.complete and found.rows:
        yield Finding(
            code="sampled",
            severity="info",
            message=f"{count(found.rows)} of {count(manifest.rows)} rows were looked at, from "
            f"{count(len(found.groups))} of {count(manifest.row_groups)} row groups"
            + ("; then the time of --validate_s was over." if found.stopped else "; totals are estimates."),
            evidence={
                "rows": found.rows, "bytes": found.bytes, "row_groups": len(found.groups), "out_of_time": found.stopped,
            },
            consequence="What is rare may have been missed, damaged rows and copies far apart among it.",
            remedy="Raise --validate_rows, --validate_bytes and --validate_s to look at more.",
        )  # fmt: skip


def units(manifest: Manifest, plan: Plan | None, reading: Reading | None) -> Iterator[Finding]:
    """Notes on row groups: how large they are, and whether there are enough of them."""
    tables = [f.known.table for f in manifest.files]
    sizes = np.sort(np.concatenate([t[t[:, 0] > 0, 1] for t in tables])) if tables else np.empty(0, np.int64)
    if not len(sizes):
        return
    median, largest = int(sizes[len(sizes) // 2]), int(sizes[-1])
    facts = {"row_groups": len(sizes), "median_bytes": median, "largest_bytes": largest}
    if largest > LARGE_ROW_GROUP:
        costs = {} if reading is None else {
            "spilled_row_groups": reading.spilled_row_groups, "spilled_bytes": reading.spilled_bytes,
            "memory_bytes": reading.memory_bytes,
        }  # fmt: skip
        scratch = (
            f" {things(reading.spilled_row_groups, 'row group')} of the first segment, {size(reading.spilled_bytes)}, "
            "would be written to scratch, as many lanes share them."
            if reading and reading.spilled_row_groups
            else ""
        )
        yield Finding(
            code="large-row-groups",
            severity="info",
            message=f"The largest row group holds {size(largest)} of text; it is read front to back.{scratch}",
            evidence={**facts, **costs},
            consequence="A resume in the middle of such a row group reads it from its beginning: seconds for each.",
            remedy="Write row groups of some 8 MB of text or less for a faster resume.",
        )
    if len(sizes) >= MANY_ROW_GROUPS and facts["median_bytes"] < SMALL_ROW_GROUP:
        yield Finding(
            code="small-row-groups",
            severity="info",
            message=f"Half of the {count(len(sizes))} row groups hold {size(facts['median_bytes'])} of text or less.",
            evidence=facts,
            consequence="Each costs a request: over a network the stream is slow.",
            remedy="Write fewer, larger row groups for a remote source.",
        )
    if plan is not None and len(sizes) < plan.lanes:
        openings = {} if reading is None else {"openings": reading.openings}
        yield Finding(
            code="few-units",
            severity="info",
            message=f"{things(len(sizes), 'row group')} for {count(plan.lanes)} lanes: lanes share row groups.",
            evidence={"row_groups": len(sizes), "lanes": plan.lanes, **openings},
            consequence="Shared row groups are read more than once where they do not fit in the cache.",
            remedy="Nothing to do for a small dataset; write a large one with more row groups, or set --lanes lower.",
        )


def compression(manifest: Manifest) -> Iterator[Finding]:
    """A note on files that can only be read from their beginning."""
    whole = [
        (manifest.label(i), f.size)
        for i, f in enumerate(manifest.files)
        if manifest.parts[manifest.part_number(i)].format != "parquet"
        and (f.uri.endswith(COMPRESSED) or manifest.parts[manifest.part_number(i)].format != "json")
    ]
    if whole:
        names = [name for name, _ in whole]
        yield Finding(
            code="whole-files",
            severity="info",
            message=f"{things(len(whole), 'file')} can only be read from the beginning: {some(names)}.",
            evidence={"files": len(whole), "largest_bytes": max(s for _, s in whole), "examples": names[:FILES_NAMED]},
            consequence="Each is one unit of the order, and a resume reads it again up to where it stood.",
            remedy="Write Parquet, or JSON lines that are not compressed, where files are large.",
        )


def beside(left_out: Sequence[LeftOut]) -> Iterator[Finding]:
    """A note on files that are data by their names and are not read."""
    if left_out:
        named = [f"{found.path}: {found.why}" for found in left_out]
        yield Finding(
            code="files-left-out",
            severity="info",
            message=f"{things(len(named), 'file')} beside the data {'is' if len(named) == 1 else 'are'} not read: "
            f"{some([f'{found.path} ({found.why})' for found in left_out])}.",
            evidence={"files": len(named), "examples": named[:FILES_NAMED]},
            consequence="Training does not see them either.",
            remedy="Where they are meant, name all files by a glob, or give them the ending and format of the others.",
        )


def amplification(reading: Reading | None) -> Iterator[Finding]:
    """A note when much more is fetched than is trained."""
    fetched = reading.fetched_per_text_byte if reading else None
    if reading is not None and fetched is not None and fetched > AMPLIFIED:
        yield Finding(
            code="read-amplification",
            severity="info",
            message=f"Up to {significant(fetched)} bytes are fetched for a byte of text that is trained.",
            evidence={"stored_per_text_byte": reading.stored_per_text_byte, "openings": reading.openings},
            consequence="Over a network this is paid in time and in requests.",
            remedy="Write more row groups, compressed Parquet, or set --lanes lower.",
        )
