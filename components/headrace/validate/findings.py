"""What was found, how grave it is, and what all of it together means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["no-go", "warn", "info"]
Verdict = Literal["go", "warn", "no-go"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding. code: stable, for programs; evidence: counts and places, never the text of a document."""

    code: str
    severity: Severity
    message: str
    evidence: dict[str, Any] = field(default_factory=dict)
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """The finding as `report.json` holds it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Where a share of rows turns into a warning or a no-go."""

    warn_wasted: float = 0.05
    """Rows null, blank or copied: at this share a warning."""
    no_go_wasted: float = 0.5
    """Above this share a no-go."""
    warn_damaged: float = 0.05
    """Rows with control or replacement characters or mojibake: at this share a warning, never more."""
    warn_efficiency: float = 0.9
    """Share of trained rows that are no filler: below it a world size does not fit."""

    def of_waste(self, share: float) -> Severity:
        """How grave a share of wasted rows is."""
        if share > self.no_go_wasted:
            return "no-go"
        return "warn" if share >= self.warn_wasted else "info"


def verdict(findings: Iterable[Finding]) -> Verdict:
    """no-go with any such finding, else warn with any warning, else go."""
    severities = {f.severity for f in findings}
    return "no-go" if "no-go" in severities else "warn" if "warn" in severities else "go"
