"""Metrics that users name: right, local, and clear about what they cannot do."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, NoReturn

import evaluate
import numpy as np
import pytest

from headrace.errors import InputError
from headrace.scoring import metrics
from headrace.scoring.score import score_documents
from headrace.scoring.scores import Scores
from tests.scoring.small import encoder, tiny_model

SCRIPT = """
import datasets, evaluate

class Share(evaluate.Metric):
    def _info(self):
        kind = datasets.Value("int32")
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def _compute(self, predictions, references):
        %s
"""


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError(f"the network was asked: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def write_metric(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SCRIPT % body)
    return path


@pytest.fixture
def scores() -> Scores:
    texts = ["for x in range(10): print(x)\n" * 8, "", "def f(): ...", "the the the the"]
    return score_documents(tiny_model(), encoder(), texts, block=16, batch_size=3, device="cpu", keep_predictions=True)


def test_accuracy_agrees_exactly_with_the_fast_sums(scores: Scores, offline: None) -> None:
    """D7: no network, also where the metric is named."""
    found = metrics.compute([("accuracy", metrics.load_metric("accuracy"))], scores)
    assert found == {"accuracy": scores.summary()["accuracy"]}


def test_accuracy_leaves_out_what_is_no_target(offline: None) -> None:
    metric = metrics.load_metric("accuracy")
    assert metric.compute(predictions=[1, 2, 3, 0], references=[1, 5, -100, 0]) == {"accuracy": 2 / 3}


def test_accuracy_is_also_found_by_its_path(scores: Scores, offline: None) -> None:
    path = metrics.OWN["accuracy"]
    for name in (path, path.parent):
        assert metrics.load_metric(str(name)).compute(predictions=[1], references=[1]) == {"accuracy": 1.0}


def test_a_script_of_the_users(tmp_path: Path, scores: Scores, offline: None) -> None:
    """Numpy's numbers and what JSON cannot carry are made plain; equal names are told apart."""
    body = (
        'import numpy as np; return {"ends": np.mean(np.array(predictions) == 0), "list": np.arange(2), "no": np.nan}'
    )
    first, second = (write_metric(tmp_path / name, body) for name in ("ends.py", "folder/folder.py"))
    named = [(str(p), metrics.load_metric(str(p))) for p in (first, second.parent)]
    found = metrics.compute(named, scores)
    assert scores.predictions is not None
    assert found["ends"] == float(np.mean(scores.predictions == 0)) == found["folder_ends"]
    assert found["list"] == [0, 1] and found["no"] is None


@pytest.mark.parametrize("name", ["rouge", "./no.py", "evaluate-metric/accuracy", "README.md"])
def test_an_unknown_name_is_refused_without_the_network(name: str, offline: None) -> None:
    with pytest.raises(InputError, match="no metric") as caught:
        metrics.load_metric(name)
    assert "never fetched" in caught.value.remedy


def test_scripts_that_do_not_work_are_named(tmp_path: Path, scores: Scores, offline: None) -> None:
    (tmp_path / "none.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(InputError, match=r"none\.py defines no evaluate\.Metric"):
        metrics.load_metric(str(tmp_path / "none.py"))
    with pytest.raises(InputError, match=r"broken\.py does not load: ModuleNotFoundError"):
        metrics.load_metric(str(tmp_path / "broken.py"))
    failing = write_metric(tmp_path / "failing.py", "raise ZeroDivisionError('zero')")
    with pytest.raises(InputError, match=r"failing\.py failed on 4 documents: ZeroDivisionError"):
        metrics.compute([(str(failing), metrics.load_metric(str(failing)))], scores)


def test_nothing_is_left_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_METRICS_CACHE", "HF_MODULES_CACHE"):
        monkeypatch.setattr(evaluate.config, name, str(tmp_path / name))
    for name in ("accuracy", str(write_metric(tmp_path / "own.py", "return {}"))):
        metrics.load_metric(name).compute(predictions=[1], references=[1])
    assert [p.name for p in tmp_path.iterdir()] == ["own.py"]
