"""Whether a scored model may be published: held against thresholds, and against the model that is current there."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from headrace.errors import InputError
from headrace.scoring.paired import CONFIDENCE, Difference

OFF, WARN, BLOCK = MODES = ("off", "warn", "block")
PASSED, WARNED, REFUSED, NOT_JUDGED = "passed", "warned", "refused", "not judged"
JUDGED = ("eval_loss", "perplexity", "accuracy", "bits_per_byte", "loss_over_unigram", "tokens", "documents")
"""Metrics that every evaluation has, so that a threshold's name is checked before anything is scored."""
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_SYNTAX = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A condition on one metric that a model must meet to be published."""

    metric: str
    operator: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """The threshold in a text; InputError when it is none."""
        match = _SYNTAX.fullmatch(text)
        try:
            value = float(match[3]) if match else math.nan
        except ValueError:
            value = math.nan
        if match is None or not math.isfinite(value):
            raise InputError(
                f"--gate_threshold is {text!r}; expected METRIC OPERATOR NUMBER",
                "operators are <, <=, > and >=; for example 'perplexity <= 30', 'accuracy >= 0.35'",
            )
        if match[1] not in JUDGED:
            raise InputError(
                f"--gate_threshold {text!r} is about {match[1]}, which no gate judges",
                f"these can be judged: {', '.join(JUDGED)}",
            )
        return cls(metric=match[1], operator=match[2], value=value)

    def __str__(self) -> str:
        return f"{self.metric} {self.operator} {self.value:g}"

    def met_by(self, found: object) -> bool:
        """Whether a metric's value meets it; a value that is no finite number, `null` in metrics.json, never does."""
        return _is_finite(found) and bool(_COMPARE[self.operator](found, self.value))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A model beside the one that is current where it is to be published.

    version: of the current one, empty where there is none. how: which scores of it were taken; problem: why there is
    no difference, where there should be one. block: tokens in view of the current model. hollow: its loss is no finite
    number, which any that is one beats.
    """

    version: str = ""
    itself: bool = False
    difference: Difference | None = None
    how: str = ""
    block: int | None = None
    problem: str = ""
    hollow: bool = False

    def met(self, max_regression: float) -> bool:
        """Whether the model may follow: surely no worse than that, or with nothing to follow."""
        if self.difference is not None:
            return self.difference.high <= max_regression
        return not self.problem

    def reason(self, max_regression: float) -> str:
        """What was found, in a line."""
        if not self.version:
            return "no model is current where it is published: there is nothing to beat"
        if self.itself:
            return f"{self.version} is current already: it is not compared with itself"
        if self.hollow:
            return f"the loss of {self.version}, which is current, is no finite number: there is nothing to beat"
        if self.difference is None:
            return f"it cannot be compared with {self.version}, which is current: {self.problem}"
        found = self.difference
        return (
            f"its loss is {found.nats:+.4f} nats a token beside {self.version}, at most {found.high:+.4f} with "
            f"{CONFIDENCE:.0%} confidence, {'as' if self.met(max_regression) else 'not as'} wanted: "
            f"at most {max_regression:+g}"
        )

    def to_json(self, max_regression: float) -> dict[str, Any]:
        """As it lies in metrics.json: what was compared, effect and interval in nats a token, and the margin."""
        facts = {"version": self.version or None, "max_regression": max_regression, "scores": self.how or None}
        if self.block is not None:
            facts["block"] = self.block
        return {**facts, **(self.difference.to_json() if self.difference else {"difference": None, "interval": None})}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate said. outcome: passed, warned, refused or not judged; reasons: one a line."""

    mode: str
    outcome: str
    reasons: tuple[str, ...]
    comparison: Mapping[str, Any] | None = None

    @property
    def refused(self) -> bool:
        """Whether the model must not be published."""
        return self.outcome == REFUSED

    def to_json(self) -> dict[str, Any]:
        """As it lies in metrics.json under `gate`."""
        return {
            "mode": self.mode, "outcome": self.outcome, "reasons": list(self.reasons), "comparison": self.comparison,
        }  # fmt: skip


def judge(
    mode: str,
    thresholds: Sequence[Threshold],
    metrics: Mapping[str, Any],
    comparison: Comparison | None = None,
    max_regression: float = 0.0,
) -> Verdict:
    """Hold metrics against thresholds, and a comparison against its margin; all must be met, by a finite loss.

    Off: nothing is judged. Warn: nothing is refused.
    """
    if mode == OFF:
        return Verdict(mode=mode, outcome=NOT_JUDGED, reasons=())
    met = [threshold.met_by(metrics.get(threshold.metric)) for threshold in thresholds]
    reasons = [
        f"{t.metric} is {_shown(metrics.get(t.metric))}, {'as' if good else 'not as'} wanted: {t}"
        for t, good in zip(thresholds, met, strict=True)
    ] or ["no threshold was set"]
    if not _is_finite(metrics.get("eval_loss")):
        met.append(False)
        reasons.insert(0, "its loss is not a finite number")
    if comparison is not None:
        met.append(comparison.met(max_regression))
        reasons.append(comparison.reason(max_regression))
    outcome = PASSED if all(met) else WARNED if mode == WARN else REFUSED
    compared = comparison.to_json(max_regression) if comparison is not None else None
    return Verdict(mode=mode, outcome=outcome, reasons=tuple(reasons), comparison=compared)


def _is_finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else "not a finite number"
