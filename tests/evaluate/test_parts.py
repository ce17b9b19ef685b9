"""Scores by source, length and position: parts of one whole, and named as people named them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.artifacts.files import read_json
from headrace.evaluate.heldout import choose
from headrace.evaluate.parts import LENGTHS, parts
from headrace.evaluate.step import run
from headrace.options import parse_mapping
from headrace.scoring.scores import Scores, Stretch
from tests.evaluate.conftest import options_for, text


def test_parts_add_up_to_the_whole() -> None:
    tokens = np.array([1, 64, 65, 256, 257, 5_000, 20_000, 900])
    loss = tokens * np.linspace(2, 4, 8)
    scores = Scores(loss, tokens, tokens // 2, tokens * 4, 5.0, (Stretch(low=3, high=4, tokens=8, loss=20.0),))
    found = parts(scores, ["b", "a", "a", "b", "a", "b", "a", "b"], seed=1)
    assert [p["source"] for p in found["by_source"]] == ["a", "b"]
    assert [p["length"] for p in found["by_length"]] == [
        [1, 64], [65, 256], [257, 1_024], [4_097, 16_384], [16_385, None],
    ]  # fmt: skip
    assert [p["documents"] for p in found["by_length"]] == [2, 2, 2, 1, 1] and LENGTHS[-1] == 16_384
    for name in ("by_source", "by_length"):
        assert sum(p["documents"] for p in found[name]) == 8 and sum(p["tokens"] for p in found[name]) == tokens.sum()
        assert sum(p["eval_loss"] * p["tokens"] for p in found[name]) == pytest.approx(loss.sum())
    assert found["by_position"] == [{"context": [3, 4], "tokens": 8, "eval_loss": 2.5}]
    assert "2 documents" in found["by_length"][-1]["eval_loss_interval_note"]
    json.dumps(found, allow_nan=False)


def test_a_model_is_scored_by_source_length_and_position(model: Path, heldout: Path, tmp_path: Path) -> None:
    run(options_for(model, heldout=str(heldout)), tmp_path / "out")
    metrics = read_json(tmp_path / "out" / "metrics.json")
    (source,) = metrics["by_source"]
    assert {k: source[k] for k in ("eval_loss", "tokens", "documents")} == {
        k: pytest.approx(metrics[k]) for k in ("eval_loss", "tokens", "documents")
    }
    assert [p["context"] for p in metrics["by_position"]] == [[1, 1], [2, 2], [3, 4], [5, 8], [9, 16], [17, 32]]
    assert sum(p["tokens"] for p in metrics["by_position"]) == metrics["tokens"]


@pytest.mark.parametrize("made", [True, False])
def test_documents_of_a_mixture_know_their_source(made: bool, tmp_path: Path) -> None:
    """Made now the manifest names the sources; of a file, the model's training record does."""
    names = [str(tmp_path / name) for name in ("web", "web/more")]
    for n, name in enumerate(reversed(names)):
        Path(name).mkdir(parents=True, exist_ok=True)
        rows = [text(i + 100 * n) for i in range(20)]
        pq.write_table(pa.table({"text": rows}), Path(name) / "a.parquet")
    mixture = [{"name": f"{name}/a.parquet", "weight": 1} for name in names]
    options = parse_mapping({"dataset_mixture": mixture, "heldout_fraction": 0.3})
    chosen = choose(options, {})
    if not made:
        chosen.slice.write(tmp_path / "heldout.parquet")
        record = {"dataset": {"sources": mixture}}
        chosen = choose(parse_mapping({"heldout": str(tmp_path / "heldout.parquet")}), record)
    assert len(chosen.sources) == 12 and set(chosen.sources) == {entry["name"] for entry in mixture}
    for source, document in zip(chosen.sources, chosen.slice.texts, strict=True):
        assert document in pq.read_table(str(source)).column("text").to_pylist()
