"""The gate: what a threshold is, what it makes of a number, and what becomes of a model that misses one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.artifacts.files import read_json
from headrace.errors import InputError, Refused
from headrace.evaluate.__main__ import main
from headrace.evaluate.gate import JUDGED, MODES, Comparison, Threshold, judge
from headrace.evaluate.step import run
from tests.evaluate.conftest import options_for
from tests.evaluate.test_step import FILES, command

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.sampled_from(JUDGED), st.sampled_from(["<", "<=", ">", ">="]), st.floats(-1e6, 1e6), NUMBERS)
def test_a_threshold_compares_as_it_reads(metric: str, operator: str, value: float, found: float) -> None:
    threshold = Threshold.parse(f"{metric} {operator} {value!r}")
    assert threshold.met_by(found) is eval(f"found {operator} value", {"found": found, "value": value})
    assert Threshold.parse(f" {metric}{operator}{value!r} ") == threshold


@pytest.mark.parametrize("found", [None, "", True, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("operator", ["<", ">"])
def test_what_is_no_number_meets_nothing(found: object, operator: str) -> None:
    assert not Threshold.parse(f"perplexity {operator} 3").met_by(found)


@given(st.dictionaries(st.sampled_from(JUDGED), st.none() | NUMBERS), st.lists(st.sampled_from(JUDGED)), NUMBERS)
def test_all_must_hold(metrics: dict[str, Any], names: list[str], value: float) -> None:
    thresholds = [Threshold(metric=name, operator="<", value=value) for name in names]
    finite = metrics.get("eval_loss") is not None
    good = finite and all(t.met_by(metrics.get(t.metric)) for t in thresholds)
    outcomes = {mode: judge(mode, thresholds, metrics).outcome for mode in MODES}
    assert outcomes == {
        "off": "not judged", "warn": "passed" if good else "warned", "block": "passed" if good else "refused",
    }  # fmt: skip
    assert len(judge("block", thresholds, metrics).reasons) == max(1, len(names)) + (not finite)


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf")])
def test_a_model_without_a_finite_loss_passes_no_gate(loss: float | None) -> None:
    """Not even as the first model, which every good one after it would be held against."""
    verdict = judge("block", [], {"eval_loss": loss}, Comparison())
    assert verdict.refused and verdict.reasons[0] == "its loss is not a finite number"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("perplexity", "expected METRIC OPERATOR NUMBER"),
        ("perplexity == 3", "expected METRIC OPERATOR NUMBER"),
        ("perplexity < three", "expected METRIC OPERATOR NUMBER"),
        ("perplexity < nan", "expected METRIC OPERATOR NUMBER"),
        ("perplexitty < 3", "perplexitty, which no gate judges"),
    ],
)
def test_mistakes_are_found_before_anything_is_scored(
    text: str, says: str, model: Path, heldout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(model, tmp_path / "out", "--heldout", str(heldout), "--gate_threshold", text)) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out" / "metrics.json").exists() and not (tmp_path / "out" / "published").exists()


def test_a_refused_model_is_scored_and_reported_but_not_published(
    model: Path, heldout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    flags = ["--heldout", str(heldout), "--gate_threshold", "accuracy <= 1", "--gate_threshold", "eval_loss < 0.1"]
    assert main(command(model, output, *flags)) == 3
    assert {path.name for path in output.iterdir()} >= FILES
    assert not list(output.rglob("*.safetensors")) and not list(output.rglob("current.json"))
    gate = read_json(output / "metrics.json")["gate"]
    assert gate["outcome"] == "refused" and "not as wanted: eval_loss < 0.1" in gate["reasons"][1]
    assert "Refused" in (output / "report.html").read_text("utf-8")
    said = capsys.readouterr()
    assert "the gate refused the model: accuracy is" in said.err and "gate       refused" in said.out
    assert read_json(output / "outcome.json")["code"] == 3


@pytest.mark.parametrize(("mode", "outcome"), [("warn", "warned"), ("off", "not judged")])
def test_otherwise_it_is_published(mode: str, outcome: str, model: Path, heldout: Path, tmp_path: Path) -> None:
    options = options_for(model, heldout=str(heldout), gate=mode, gate_threshold=["eval_loss < 0.1"])
    facts = run(options, tmp_path)
    assert facts["gate"] == outcome and (Path(facts["published"]) / "model.safetensors").is_file()


def test_refused_is_what_the_step_raises(model: Path, heldout: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"eval_loss is [\d.]+, not as wanted: eval_loss > 1000"):
        run(options_for(model, heldout=str(heldout), gate_threshold=["eval_loss > 1000"]), tmp_path)
    with pytest.raises(InputError, match="METRIC OPERATOR NUMBER"):
        run(options_for(model, heldout=str(heldout), gate_threshold=["eval_loss"]), tmp_path)


@pytest.mark.parametrize("margin", ["inf", "nan"])
def test_a_margin_that_is_no_number_ends_before_anything_is_scored(
    margin: str, model: Path, heldout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(model, tmp_path / "out", "--heldout", str(heldout), "--gate_max_regression", margin)) == 2
    said = capsys.readouterr().err
    assert "--gate_max_regression is" in said and "Traceback" not in said
    assert not (tmp_path / "out" / "metrics.json").exists()
