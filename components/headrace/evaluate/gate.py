"""Whether a scored model may be published: its metrics held against thresholds that the user set."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.errors import InputError

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
        if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
            return False
        return bool(_COMPARE[self.operator](found, self.value))


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate said. outcome: passed, warned, refused or not judged; reasons: a line for each threshold."""

    mode: str
    outcome: str
    reasons: tuple[str, ...]

    @property
    def refused(self) -> bool:
        """Whether the model must not be published."""
        return self.outcome == REFUSED

    def to_json(self) -> dict[str, Any]:
        """As it lies in metrics.json under `gate`."""
        return {"mode": self.mode, "outcome": self.outcome, "reasons": list(self.reasons)}


def judge(mode: str, thresholds: Sequence[Threshold], metrics: Mapping[str, Any]) -> Verdict:
    """Hold metrics against thresholds; all must be met. Off: nothing is judged. Warn: nothing is refused."""
    if mode == OFF:
        return Verdict(mode=mode, outcome=NOT_JUDGED, reasons=())
    if not thresholds:
        return Verdict(mode=mode, outcome=PASSED, reasons=("no threshold was set",))
    met = [threshold.met_by(metrics.get(threshold.metric)) for threshold in thresholds]
    reasons = tuple(
        f"{t.metric} is {_shown(metrics.get(t.metric))}, {'as' if good else 'not as'} wanted: {t}"
        for t, good in zip(thresholds, met, strict=True)
    )
    missed = WARNED if mode == WARN else REFUSED
    return Verdict(mode=mode, outcome=PASSED if all(met) else missed, reasons=reasons)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else "not a finite number"
