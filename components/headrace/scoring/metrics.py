"""Metrics that users name, loaded from this machine only."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import InputError
from headrace.scoring.scores import Scores

OWN = {"accuracy": Path(__file__).parent / "accuracy" / "accuracy.py"}


def load_metric(name_or_path: str) -> Any:
    """An `evaluate.Metric`: one of Headrace's own by name, or the script at a path; never one from the network."""
    script = OWN.get(name_or_path) or _script(name_or_path)
    metric = _metric_class(script)
    try:
        # Predictions stay in memory; without a folder of its own the metric would make one in the home folder.
        with tempfile.TemporaryDirectory(prefix="headrace-") as unused:
            return metric(keep_in_memory=True, cache_dir=unused)
    except Exception as error:
        raise InputError(f"--metric {name_or_path} cannot be set up: {type(error).__name__}: {error}") from error


def _script(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        path = path / f"{path.resolve().name}.py"
    if path.suffix == ".py" and path.is_file():
        return path
    raise InputError(
        f"there is no metric {name!r} here; expected {', '.join(OWN)} or the path of a metric script",
        "metrics are never fetched from the network: copy the script here and name its path",
    )


def _metric_class(script: Path) -> Any:
    """The `evaluate.Metric` that a script defines.

    Not `evaluate.load`: that copies the script into a cache in the home folder and follows addresses in its comments.
    """
    import evaluate

    spec = importlib.util.spec_from_file_location(f"headrace_metric_{script.stem}", script)
    if spec is None or spec.loader is None:
        raise InputError(f"{script} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"the metric {script} does not load: {type(error).__name__}: {error}") from error
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, evaluate.Metric) and value.__module__ == spec.name
    ]
    if not found:
        raise InputError(f"{script} defines no evaluate.Metric", "name a metric script, as `evaluate` knows them")
    return found[0]


def compute(named: Sequence[tuple[str, Any]], scores: Scores) -> dict[str, Any]:
    """Results of some metrics over kept predictions, by result; by `NAME_result` where two give the same."""
    results: dict[str, Any] = {}
    for name, metric in named:
        try:
            answer = metric.compute(predictions=scores.predictions, references=scores.references)
        except Exception as error:
            raise InputError(
                f"--metric {name} failed on {len(scores.tokens)} documents: {type(error).__name__}: {error}",
                "it is given flat lists of token ids, `predictions` and `references`",
            ) from error
        for key, value in (answer or {}).items():
            results[f"{Path(name).stem}_{key}" if key in results else key] = _plain(value)
    return results


def _plain(value: Any) -> Any:
    """A value as JSON has it: numpy's scalars and arrays made plain, NaN and infinities None."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
