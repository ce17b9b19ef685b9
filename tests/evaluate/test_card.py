"""The card and the table, also when little is known."""

from __future__ import annotations

from typing import Any

from huggingface_hub import ModelCard

from headrace.evaluate.card import make_card, table

METRICS: dict[str, Any] = {
    "eval_loss": 800.5, "eval_loss_interval": [800.0, 801.0], "perplexity": None, "perplexity_note": "inf",
    "perplexity_interval": [None, None], "accuracy": 0.25, "accuracy_interval": None, "bits_per_byte": 3.0,
    "unigram_loss": 5.0, "loss_over_unigram": 160.1, "documents": 1234, "tokens": 56789, "block": 64,
    "metrics": {"mine": 0.5, "words": "some"},
}  # fmt: skip
LINEAGE: dict[str, Any] = {
    "headrace": "0.1.0",
    "heldout": {"digest": "d" * 64, "documents": 1234, "origin": "read from | a file"},
}


def test_the_table_shows_what_has_no_number() -> None:
    lines = {line.split("  ")[0]: line for line in table(METRICS).splitlines()}
    assert "800.5000" in lines["held-out loss, nats a token"] and "800.0000 to 801.0000" in table(METRICS)
    assert "not finite" in lines["perplexity"]
    assert "1,234" in lines["documents"] and "56,789" in lines["tokens"]
    assert "0.5000" in lines["--metric mine"] and "some" in lines["--metric words"]


def test_a_card_of_a_model_of_unknown_origin() -> None:
    text = make_card(name="model-1", metrics=METRICS, lineage=LINEAGE)
    data: Any = ModelCard(text).data
    assert data.library_name == "transformers" and data.datasets is None
    assert [r.metric_type for r in data.eval_results] == ["eval_loss", "accuracy", "bits_per_byte"]
    assert "None" not in text and "undefined" not in text.lower()


def test_a_hub_dataset_is_named_in_the_metadata() -> None:
    dataset = {"name": "org/data", "config": "c", "split": "train", "revision": "a" * 40, "manifest_hash": "b" * 64}
    training = {"steps": 2500, "tokens": 20_000_000, "version": "0.1.0"}
    text = make_card(name="m", metrics=METRICS, lineage={**LINEAGE, "dataset": dataset, "training": training})
    data: Any = ModelCard(text).data
    assert data.datasets == ["org/data"]
    assert "trained for 2,500 steps on 20,000,000 tokens of `org/data`" in text and "a" * 40 in text


def test_every_hub_dataset_of_a_mixture_and_the_model_it_began_from_are_named() -> None:
    sources = [
        {"name": "org/a", "config": "en", "revision": "1" * 40}, {"name": "/data/b", "revision": ""},
        {"name": "org/a", "config": "de", "revision": "1" * 40},
    ]  # fmt: skip
    dataset = {"name": "org/a + /data/b", "revision": "1" * 40, "sources": sources}
    parent = {"model": "org/base", "revision": "2" * 40, "random_weights": False}
    text = make_card(name="m", metrics=METRICS, lineage={**LINEAGE, "dataset": dataset, "parent": parent})
    data: Any = ModelCard(text).data
    assert data.datasets == ["org/a"] and data.base_model == "org/base"
    again = make_card(name="m", metrics=METRICS, lineage={**LINEAGE, "parent": {**parent, "random_weights": True}})
    unnamed: Any = ModelCard(again).data
    assert unnamed.base_model is None
