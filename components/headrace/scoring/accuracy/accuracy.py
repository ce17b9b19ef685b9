"""Next-token accuracy as a Hugging Face `evaluate` metric: `--metric accuracy`, or this file by its path."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """Share of tokens that the model put first, over all positions that are targets."""
_INPUTS = """
Args:
    predictions: flat list of token ids, each the one put first for the position of its reference.
    references: flat list of the target ids; -100 marks a position that is no target and is left out.
        The shift by one, from inputs to targets, is the caller's.
Returns:
    accuracy: float; NaN when no position is a target.
"""


class Accuracy(evaluate.Metric):  # type: ignore[misc]
    """Next-token accuracy, -100 left out."""

    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": ids, "references": ids}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        expected = np.asarray(references, np.int64)
        wanted = expected != -100
        correct = int((np.asarray(predictions, np.int64)[wanted] == expected[wanted]).sum())
        targets = int(wanted.sum())
        return {"accuracy": correct / targets if targets else float("nan")}
