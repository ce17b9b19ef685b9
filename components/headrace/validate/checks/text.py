"""Checks of what the rows say: unusable, copied, damaged, personal, different between files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from headrace.artifacts.report_format import count, percent, significant
from headrace.stream.manifest import Manifest
from headrace.validate import private
from headrace.validate.checks.wording import share_of_rows, some, things
from headrace.validate.columns import Columns, grouped
from headrace.validate.findings import Finding, Severity, Thresholds, warn_from
from headrace.validate.private import Sightings
from headrace.validate.profile import Profiles
from headrace.validate.scan import Scan

LEAST_VALUES = 50
"""Rows of a file that are looked at, at least, before it is said to differ."""
COLUMN_DRIFT, TEXT_DRIFT = 0.5, 0.6
"""Differences between files from which on they are told of."""
LONG_BLOCKS = 1_000
TINY_TOKENS, TINY_SHARE = 16, 0.5


def waste(found: Scan, limits: Thresholds) -> Iterator[Finding]:
    """Rows that train nothing new: null, blank, or exact copies of another row."""
    if not found.rows:
        return
    unusable = found.nulls + found.blanks
    parts = [
        (
            "unusable-rows", unusable, "null or blank",
            {"nulls": found.nulls, "blanks": found.blanks}, ("null", "blank"),
            "Training drops these rows.",
            "Check --dataset_text_field, or clean the source.",
        ),
        (
            "duplicate-rows", found.duplicates, "exact copies of another row",
            {"duplicates": found.duplicates}, ("duplicate",),
            "Each repeats tokens that are already there.",
            "Remove the copies from the source, or train with --dedup dataset.",
        ),
    ]  # fmt: skip
    for code, n, what, facts, kinds, consequence, remedy in parts:
        if n:
            yield Finding(
                code=code,
                severity=limits.of_waste(n / found.rows),
                message=f"{share_of_rows(n, found)} are {what}.",
                evidence={"rows": found.rows, **facts, "examples": found.examples.of(*kinds)},
                consequence=consequence,
                remedy=remedy,
            )
    together = wasted_share(found)
    worst = {limits.of_waste(n / found.rows) for _, n, *_ in parts}
    if limits.of_waste(together) not in worst:
        yield Finding(
            code="wasted-rows",
            severity=limits.of_waste(together),
            message=f"{percent(together)} of the rows looked at are null, blank or copies, taken together.",
            evidence={"rows": found.rows, "unusable": unusable, "duplicates": found.duplicates},
            consequence="So much of what is read trains nothing new.",
            remedy="Clean the source, or name a better one.",
        )


def wasted_share(found: Scan) -> float:
    """Share of the rows looked at that are null, blank or exact copies."""
    return (found.nulls + found.blanks + found.duplicates) / found.rows if found.rows else 0.0


def filtered(found: Scan) -> Iterator[Finding]:
    """A note on rows that filters leave out."""
    if found.filtered:
        n = sum(found.filtered.values())
        yield Finding(
            code="filtered-rows",
            severity="info",
            message=f"{share_of_rows(n, found)} are left out by --dataset_filter.",
            evidence={"rows": found.rows, "by_filter": found.filtered},
            consequence="They are read and not trained.",
        )


def damage(found: Scan, limits: Thresholds) -> Iterator[Finding]:
    """Rows with control characters, replacement characters or mojibake."""
    n = found.damaged["any"]
    if n:
        kinds = {k: v for k, v in found.damaged.items() if k != "any" and v}
        yield Finding(
            code="damaged-text",
            severity=warn_from(n / found.rows, limits.warn_damaged),
            message=f"{share_of_rows(n, found)} hold control characters, replacement characters or UTF-8 that was "
            "decoded wrongly.",
            evidence={"rows": found.rows, "damaged": n, **kinds, "examples": found.examples.of(*kinds)},
            consequence="The model learns to write them.",
            remedy="Look at these rows; text decoded wrongly can be mended at the source (ftfy does that).",
        )


def personal(found: Scan, sightings: Sightings, limits: Thresholds) -> Iterator[Finding]:
    """Notes on signs of personal data and of secrets: counts and places only."""
    documents = len(found.sizes)
    for code, kinds, what, remedy in (
        ("personal-data", private.PERSONAL, "signs of personal data", "Mask them at the source if they are real."),
        ("secrets", private.SECRETS, "what looks like keys or tokens", "Remove them, and have real ones revoked."),
    ):
        there = [k for k in kinds if sightings.documents[k]]
        if there:
            shown = ", ".join(f"{k} {count(sightings.matches[k])}" for k in there)
            most = max(sightings.documents[k] for k in there)
            yield Finding(
                code=code,
                severity=warn_from(most / documents, limits.warn_private),
                message=f"Documents hold {what}: {shown}.",
                evidence={
                    "documents_looked_at": documents,
                    "matches": {k: sightings.matches[k] for k in there},
                    "documents": {k: sightings.documents[k] for k in there},
                    "examples": sightings.examples.of(*there),
                },
                consequence="A model may repeat what it was trained on, word for word.",
                remedy=f"{remedy} These are patterns: look before you judge.",
            )


def drift(manifest: Manifest, columns: Columns, profiles: Profiles, limits: Thresholds) -> Iterator[Finding]:
    """Notes on files that differ strongly from others in a column or in their text."""
    for name, column in columns.columns.items():
        found = _groups(partial(grouped, column, LEAST_VALUES), COLUMN_DRIFT, limits)
        if found:
            yield _differ(manifest, *found, "column-drift", f"in the column {name!r}", {"column": name})
    if found := _groups(profiles.grouped, TEXT_DRIFT, limits):
        yield _differ(manifest, *found, "text-drift", "in their text, as another language or kind of text does", {})


def _groups(
    of: Callable[[float], list[list[int]]], told: float, limits: Thresholds
) -> tuple[list[list[int]], float, Severity] | None:
    """Files in groups that differ by the limit of a warning, or else by that of a note; None where none differ."""
    if limits.warn_drift is not None and len(groups := of(limits.warn_drift)) > 1:
        return groups, limits.warn_drift, "warn"
    return (groups, told, "info") if len(groups := of(told)) > 1 else None


def _differ(
    manifest: Manifest,
    groups: Sequence[Sequence[int]],
    limit: float,
    severity: Severity,
    code: str,
    where: str,
    facts: dict[str, object],
) -> Finding:
    odd = [manifest.label(f) for g in groups[1:] for f in g]
    return Finding(
        code=code,
        severity=severity,
        message=f"Files differ strongly {where}: {things(len(groups[0]), 'file')} of one kind, "
        f"{things(len(odd), 'file')} of {'another' if len(groups) == 2 else 'others'} ({some(odd)}).",
        evidence={
            **facts,
            "limit": limit,
            "groups": [{"files": len(g), "first": manifest.label(g[0]), "last": manifest.label(g[-1])} for g in groups],
        },
        consequence="The order mixes files, so that every step trains some of each kind.",
        remedy="Look at these files; leave them out by a glob, or rows of them with --dataset_filter.",
    )


def lengths(found: Scan, train_tokens: int, lanes: int | None, block: int | None) -> Iterator[Finding]:
    """Notes on documents that are very long, and on very many that are tiny."""
    if not len(found.tokens) or not found.tokens.sum():
        return
    longest = int(found.tokens.max())
    share = train_tokens / lanes if lanes else 0
    if block and (longest >= LONG_BLOCKS * block or (lanes and longest > max(share, 2 * block) and lanes > 1)):
        blocks = longest / block
        yield Finding(
            code="long-documents",
            severity="info",
            message=f"The longest document has {count(longest)} tokens: {significant(blocks)} blocks of one lane, one "
            "after another.",
            evidence={
                "tokens": longest, "bytes": int(found.sizes.max()), "blocks": round(blocks, 1),
                "lane_tokens": round(share), "place": str(found.longest),
                "longer_than_a_block": int((found.tokens > block).sum()),
            },
            consequence="A document is encoded in one piece, which takes memory of many times its size, and its lane "
            "trains nothing else meanwhile.",
            remedy="Split such documents at the source, or leave them out: --dataset_filter 'characters < 1000000'.",
        )  # fmt: skip
    tiny = int((found.tokens < TINY_TOKENS).sum())
    if tiny >= TINY_SHARE * len(found.tokens):
        yield Finding(
            code="tiny-documents",
            severity="info",
            message=f"{percent(tiny / len(found.tokens))} of the documents have fewer than {TINY_TOKENS} tokens.",
            evidence={"documents": len(found.tokens), "tiny": tiny},
            consequence="Blocks are made of many scraps, each of which a model sees with hardly any context.",
            remedy="Join rows that belong together at the source, or set --dataset_filter 'characters > 100'.",
        )
