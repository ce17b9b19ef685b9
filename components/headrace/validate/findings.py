"""What was found, how grave it is, and what all of it together means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from headrace.errors import InputError
from headrace.options.bounds import Bounds
from headrace.stream.source import nearest

Severity = Literal["no-go", "warn", "info"]
Verdict = Literal["go", "warn", "no-go"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding. code: stable, for programs; evidence: counts and places, never the text of a document.

    consequence: what it means for a training, where the message does not say that already.
    """

    code: str
    severity: Severity
    message: str
    evidence: dict[str, Any] = field(default_factory=dict)
    consequence: str = ""
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """The finding as `report.json` holds it."""
        return asdict(self)


def threshold(default: float | None, text: str) -> Any:
    """A limit with what it means."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Where a finding turns into a warning or a no-go; without a number it is a note whatever was found."""

    warn_wasted: float = threshold(0.05, "share of rows null, blank or copied from which on there is a warning")
    no_go_wasted: float = threshold(0.5, "share of rows null, blank or copied above which it is a no-go")
    warn_damaged: float = threshold(
        0.05, "share of rows with control or replacement characters or mojibake from which on there is a warning"
    )
    warn_efficiency: float = threshold(0.9, "share of trained rows that are no filler, below which there is a warning")
    overlap_ngrams: float = threshold(0.8, "share of a held-out document's 13-grams from which on it overlaps")
    warn_overlap: float = threshold(0.05, "share of held-out documents that overlap from which on there is a warning")
    warn_overlap_documents: float = threshold(3, "held-out documents that overlap at least, for that warning")
    warn_unknown: float | None = threshold(None, "share of unknown tokens from which on there is a warning")
    warn_bytes_per_token: float | None = threshold(None, "bytes of text a token below which there is a warning")
    warn_drift: float | None = threshold(
        None, "difference between files, of a column or of the text, from which on there is a warning (0 to 1)"
    )
    warn_private: float | None = threshold(
        None, "share of documents with signs of personal data or of secrets from which on there is a warning"
    )
    warn_stall: float | None = threshold(
        None, "share of time that GPUs would wait for data from which on there is a warning (--gpu_tokens_per_s)"
    )

    @classmethod
    def parse(cls, changes: object) -> Thresholds:
        """The thresholds with those of --validate_thresholds changed; InputError names what does not fit."""
        remedy = "docs/validation.md lists the thresholds"
        if changes is None:
            return cls()
        if not isinstance(changes, Mapping):
            raise InputError(f"--validate_thresholds is {changes!r}, expected names and numbers", remedy)
        known = {f.name: f for f in fields(cls)}
        for name, value in changes.items():
            if name not in known:
                raise InputError(f"--validate_thresholds has no {name!r}{nearest(str(name), known)}", remedy)
            absent = value is None and known[name].default is None
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not absent and not (number and Bounds(0).hold(value)):
                raise InputError(
                    f"--validate_thresholds: {name} is {repr(value)[:40]}, expected a number of 0 or more", remedy
                )
        return cls(**changes)

    def of_waste(self, share: float) -> Severity:
        """How grave a share of wasted rows is."""
        if share > self.no_go_wasted:
            return "no-go"
        return "warn" if share >= self.warn_wasted else "info"


def warn_from(value: float, limit: float | None) -> Severity:
    """A warning from a limit on, where there is one; else a note."""
    return "warn" if limit is not None and value >= limit else "info"


def verdict(findings: Iterable[Finding]) -> Verdict:
    """no-go with any such finding, else warn with any warning, else go."""
    severities = {f.severity for f in findings}
    return "no-go" if "no-go" in severities else "warn" if "warn" in severities else "go"
