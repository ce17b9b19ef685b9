"""A model beside the current one: judged on the same documents, again when another one came in between."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from headrace.artifacts.checkpoint import CheckpointRef, commit
from headrace.artifacts.files import read_json, write_json
from headrace.artifacts.storage import open_store
from headrace.errors import HeadraceError, InputError, Refused
from headrace.evaluate.compare import compare
from headrace.evaluate.gate import Comparison, Verdict, judge
from headrace.evaluate.promote import ATTEMPTS, Promoted, promote
from headrace.evaluate.publish import seal
from headrace.evaluate.scored import Scored, Terms
from headrace.evaluate.shelf import PROMOTED, Promotion, move, read_pointer
from headrace.evaluate.step import run
from headrace.evaluate.subject import open_subject
from headrace.scoring.paired import difference
from headrace.scoring.score import score_documents
from headrace.stream.heldout import HeldOut
from tests.evaluate.conftest import FRACTION, PLAN, options_for
from tests.evaluate.test_step import command
from tests.scoring.small import encoder, tiny_model


def variant(trained: Path, folder: Path, step: int, scale: float = 1.0) -> Path:
    """The trained model at another step, its last layer norm scaled: above 1 it is surer, and wrong as often."""
    shutil.copytree(trained, folder)
    weights = load_file(folder / "model.safetensors")
    weights["transformer.ln_f.weight"] = weights["transformer.ln_f.weight"] * scale
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    record = commit(folder, step=step, plan_hash=PLAN)
    CheckpointRef(uri=".", commit_hash=record.hash, step=step).write(folder)
    return folder


@pytest.fixture
def shelf(trained: Path, heldout: Path, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """A place with a current model, and what its evaluation said."""
    place = str(tmp_path / "models")
    first = run(
        options_for(variant(trained, tmp_path / "first", 1), heldout=str(heldout), publish=place), tmp_path / "1"
    )
    return place, first


def current(place: str) -> str:
    found = read_pointer(open_store(place)).current
    assert found is not None
    return found.version


def gate_of(folder: Path) -> dict[str, Any]:
    gate: dict[str, Any] = read_json(folder / "metrics.json")["gate"]
    assert gate == read_json(folder / "lineage.json")["gate"]
    return gate


def test_a_first_model_has_nothing_to_beat_and_says_so(
    shelf: tuple[str, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = gate_of(tmp_path / "1")
    assert gate["outcome"] == "passed" and "nothing to beat" in gate["reasons"][1]
    assert gate["comparison"] == {
        "version": None, "max_regression": 0.01, "scores": None, "difference": None, "interval": None,
    }  # fmt: skip


def test_a_worse_model_is_refused_and_the_current_one_stays(
    shelf: tuple[str, dict[str, Any]], trained: Path, heldout: Path, tmp_path: Path
) -> None:
    place, first = shelf
    worse = variant(trained, tmp_path / "worse", 2, scale=3)
    with pytest.raises(Refused, match=f"nats a token beside {first['version']}, at most .* not as wanted: at most"):
        run(options_for(worse, heldout=str(heldout), publish=place), tmp_path / "2")
    gate = gate_of(tmp_path / "2")
    found = gate["comparison"]
    assert gate["outcome"] == "refused" and found["scores"] == "published with it" and found["documents"] == 8
    # Effect and interval by hand, from weights and documents.
    texts = HeldOut.read(heldout).texts
    models = [tiny_model(), tiny_model()]
    models[1].transformer.ln_f.weight.data *= 3
    one, two = (score_documents(m, encoder(), texts, block=24, batch_size=8, device="cpu") for m in models)
    expected = difference(two.loss, one.loss, two.tokens, seed=42)
    assert found["difference"] == pytest.approx(expected.nats) and found["difference"] > 0.01
    assert found["interval"] == pytest.approx([expected.low, expected.high])
    assert current(place) == first["version"] and len(list(Path(place).glob("step-2-*"))) == 0

    facts = run(options_for(worse, heldout=str(heldout), publish=place, gate="warn"), tmp_path / "3")
    assert facts["gate"] == "warned" and current(place) == facts["version"]
    (promotion,) = read_pointer(open_store(place)).promotions[1:]
    assert promotion.gate is not None and promotion.gate["compared"]["version"] == first["version"]


def test_a_better_one_is_promoted_and_the_earlier_one_kept(
    shelf: tuple[str, dict[str, Any]], trained: Path, heldout: Path, tmp_path: Path
) -> None:
    place, first = shelf
    better = variant(trained, tmp_path / "better", 2, scale=0.5)
    given = {"heldout": str(heldout), "publish": place}
    with pytest.raises(Refused):
        run(options_for(better, **given, gate_max_regression=-100), tmp_path / "much")
    facts = run(options_for(better, **given, gate_max_regression=0), tmp_path / "2")
    found = gate_of(tmp_path / "2")["comparison"]
    assert found["difference"] < 0 and found["interval"][1] <= 0 and facts["eval_loss"] < first["eval_loss"]
    assert current(place) == facts["version"] and Path(first["published"], "model.safetensors").is_file()


def test_off_compares_nothing(shelf: tuple[str, dict[str, Any]], trained: Path, heldout: Path, tmp_path: Path) -> None:
    worse = variant(trained, tmp_path / "worse", 2, scale=3)
    facts = run(options_for(worse, heldout=str(heldout), publish=shelf[0], gate="off"), tmp_path / "2")
    gate = gate_of(tmp_path / "2")
    assert (facts["gate"], gate["comparison"], current(shelf[0])) == ("not judged", None, facts["version"])


def test_another_slice_or_block_scores_the_current_model_anew(
    shelf: tuple[str, dict[str, Any]], trained: Path, dataset: Path, heldout: Path, tmp_path: Path
) -> None:
    place, first = shelf
    same = variant(trained, tmp_path / "same", 2)
    flags = {"dataset_name": str(dataset), "heldout_fraction": 2 * FRACTION, "publish": place}
    run(options_for(same, **flags), tmp_path / "2")
    found = gate_of(tmp_path / "2")["comparison"]
    assert (found["version"], found["scores"], found["difference"]) == (first["version"], "made anew", 0)
    assert found["documents"] == 16
    again = variant(trained, tmp_path / "again", 3)
    run(options_for(again, **flags, dataset_block_size=16), tmp_path / "3")
    assert gate_of(tmp_path / "3")["comparison"]["scores"] == "made anew"
    assert gate_of(tmp_path / "3")["comparison"]["block"] == 16


def test_where_no_comparison_is_possible_the_model_is_refused_with_the_reason(
    shelf: tuple[str, dict[str, Any]], trained: Path, heldout: Path, tmp_path: Path
) -> None:
    place, first = shelf
    same = variant(trained, tmp_path / "same", 2)
    few = options_for(same, heldout=str(heldout), publish=place, max_eval_samples=5)
    with pytest.raises(Refused, match="5 documents are too few, at least 8 are needed"):
        run(few, tmp_path / "few")
    for name in ("model.safetensors", "scores.parquet"):
        Path(first["published"], name).unlink()
    given = {"heldout": str(heldout), "publish": place}
    with pytest.raises(Refused, match=r"cannot be compared .* scores\.parquet was not published .* is missing"):
        run(options_for(same, **given), tmp_path / "2")
    assert gate_of(tmp_path / "2")["comparison"]["difference"] is None and current(place) == first["version"]
    assert run(options_for(same, **given, gate="warn"), tmp_path / "3")["gate"] == "warned"


def test_the_current_model_scored_again_keeps_its_papers(
    shelf: tuple[str, dict[str, Any]], heldout: Path, tmp_path: Path
) -> None:
    place, first = shelf
    before = {path.name: path.read_bytes() for path in Path(first["published"]).iterdir()}
    run(options_for(tmp_path / "first", heldout=str(heldout), publish=place), tmp_path / "2")
    assert "is current already" in gate_of(tmp_path / "2")["reasons"][1]
    assert {path.name: path.read_bytes() for path in Path(first["published"]).iterdir()} == before


def scores_of(losses: list[float], tokens: int = 10, **terms: Any) -> Scored:
    counts = np.full(len(losses), tokens)
    known = {"slice": "s", "tokenizer": "t", "block": 24, "dtype": "float32", **terms}
    return Scored(
        terms=Terms(**known), hash=np.arange(len(losses), dtype=np.uint64), tokens=counts,
        loss=np.array(losses), correct=counts, text_bytes=counts,
    )  # fmt: skip


def test_two_tokenizers_are_compared_by_the_text_that_both_scored(tmp_path: Path) -> None:
    """Sums of nats of the same documents compare, though each tokenizer cuts them into tokens of its own."""
    store = open_store(str(tmp_path))
    theirs = scores_of([30.0] * 9, tokens=20, tokenizer="other")
    theirs.write(tmp_path / "old" / "scores.parquet")
    old = Promotion(version="old", commit_hash="o", step=1, by=PROMOTED, at="t", id="1")
    asked: list[str] = []

    def rescore(location: str) -> Scored:
        asked.append(location)
        return theirs

    found = compare(store, old, "mine", scores_of([29.0] * 9), rescore, seed=0)
    assert asked == [str(tmp_path / "old")] and found.difference is not None
    assert found.difference.nats == pytest.approx(-0.1)  # a nat less in a document, over 10 tokens of the new model


@pytest.mark.parametrize("spoil", ["other documents", "other dtype", "other version", "no parquet"])
def test_scores_that_do_not_serve_are_made_anew(spoil: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path))
    good = scores_of([30.0] * 9)
    if spoil == "other documents":
        replace(good, hash=good.hash + np.uint64(1)).write(tmp_path / "old" / "scores.parquet")
    elif spoil == "other dtype":
        scores_of([30.0] * 9, dtype="bfloat16").write(tmp_path / "old" / "scores.parquet")
    elif spoil == "other version":
        with monkeypatch.context() as later:
            later.setattr("headrace.evaluate.scored.VERSION", 99)
            good.write(tmp_path / "old" / "scores.parquet")
    else:
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "scores.parquet").write_bytes(b"PAR1")
    old = Promotion(version="old", commit_hash="o", step=1, by=PROMOTED, at="t", id="1")

    def refuse(location: str) -> Scored:
        raise InputError("it is gone")

    assert compare(store, old, "mine", good, lambda _: good, seed=0).how == "made anew"
    assert "it cannot be scored anew: it is gone" in compare(store, old, "mine", good, refuse, seed=0).problem


def test_a_current_model_whose_loss_is_no_number_is_beaten_by_any(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    broken, good = scores_of([math.nan] * 9), scores_of([30.0] * 9)
    broken.write(tmp_path / "old" / "scores.parquet")
    old = Promotion(version="old", commit_hash="o", step=1, by=PROMOTED, at="t", id="1")
    found = compare(store, old, "mine", good, lambda _: broken, seed=0)
    assert found.met(0.01) and "nothing to beat" in found.reason(0.01)
    good.write(tmp_path / "old" / "scores.parquet")
    assert not compare(store, old, "mine", broken, lambda _: good, seed=0).met(0.01)


def promoting(store_at: Path, model: Path, judged: Any, scratch: Path) -> Promoted:
    store = open_store(str(store_at))
    sealed = seal(open_subject(options_for(model), scratch), scratch / "publish")
    paper = scratch / "scores.parquet"
    paper.write_bytes(b"scores")

    def judge_and_tell(now: Promotion | None) -> Verdict:
        verdict: Verdict = judged(now)
        paper.write_text(verdict.outcome)
        return verdict

    return promote(store, sealed, judge_and_tell, papers=[paper], scratch=scratch, eval_loss=1.0)


def test_who_lost_a_race_is_judged_again_beside_the_winner(model: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "models"))
    seen: list[str | None] = []

    def judged(now: Promotion | None) -> Verdict:
        seen.append(now.version if now else None)
        if now is None:  # while this one is judged, another becomes current
            move(
                store, read_pointer(store), Promotion(version="w", commit_hash="w", step=1, by=PROMOTED, at="", id="w")
            )
        problem = "it is worse" if now else ""
        return judge("block", [], {"eval_loss": 1.0}, Comparison(version=now.version if now else "", problem=problem))

    answer = promoting(tmp_path / "models", model, judged, tmp_path)
    assert seen == [None, "w"] and answer.verdict.refused and answer.staged is None
    assert current(str(tmp_path / "models")) == "w"
    # What was staged before the race was lost stays, and does not say any more that it passed.
    (paper,) = (tmp_path / "models").glob("step-*/scores.parquet")
    assert paper.read_text() == "refused"


def test_races_without_end_are_an_error(model: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "models"))
    count = 0

    def judged(now: Promotion | None) -> Verdict:
        nonlocal count
        count += 1
        name = f"w{count}"
        move(store, read_pointer(store), Promotion(version=name, commit_hash=name, step=1, by=PROMOTED, at="", id=name))
        return judge("warn", [], {"eval_loss": 1.0})

    with pytest.raises(HeadraceError, match=f"{ATTEMPTS} times"):
        promoting(tmp_path / "models", model, judged, tmp_path)
    assert count == ATTEMPTS


def test_of_two_evaluations_at_once_the_worse_one_never_ends_current(
    trained: Path, heldout: Path, tmp_path: Path
) -> None:
    """Two real processes: whoever comes second is judged beside the first."""
    models = [
        variant(trained, tmp_path / name, step, scale) for name, step, scale in (("good", 1, 1.0), ("bad", 2, 3.0))
    ]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "headrace.evaluate",
             *command(m, tmp_path / f"{m.name}-out", "--heldout", str(heldout), "--publish", str(tmp_path / "models"))],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for m in models
    ]  # fmt: skip
    said = [process.communicate(timeout=250) for process in running]
    codes = [process.returncode for process in running]
    assert codes[0] == 0 and codes[1] in (0, 3), said
    versions = [p.version for p in read_pointer(open_store(str(tmp_path / "models"))).promotions]
    assert versions[-1].startswith("step-1-") and len(versions) == (2 if codes[1] == 0 else 1)


def test_a_pointer_that_is_none_ends_before_anything_is_scored(model: Path, heldout: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "models" / "current.json", {})
    with pytest.raises(InputError, match=r"current\.json does not say which version is current"):
        run(options_for(model, heldout=str(heldout), publish=str(tmp_path / "models")), tmp_path / "out")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["current.json"]
    assert not (tmp_path / "out" / "metrics.json").exists()
