"""Scores by source, length and position: parts of one whole, and named as people named them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.artifacts.files import read_json
from headrace.evaluate.heldout import choose
from headrace.evaluate.parts import LENGTHS, parts
from headrace.evaluate.step import run
from headrace.options import Options, parse_mapping
from headrace.scoring.scores import Scores, Stretch
from headrace.stream.addresses import cleaned
from headrace.stream.heldout import SCHEMA, HeldOut, content_hash
from headrace.stream.manifest import Manifest, ManifestFile, Part
from headrace.train.record import dataset_facts, heldout_facts
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


def file_of(path: Path, labels: list[str]) -> Options:
    """A held-out slice of one document a file, as it lies in a file."""
    texts = [text(i) for i in range(len(labels))]
    rows = [
        {"text": t, "file": label, "row_group": 0, "row": 0, "hash": content_hash(t)}
        for t, label in zip(texts, labels, strict=True)
    ]
    HeldOut(pa.Table.from_pylist(rows, schema=SCHEMA)).write(path)
    return parse_mapping({"heldout": str(path)})


def recorded(manifest: Manifest, options: Options) -> dict[str, Any]:
    """What an evaluation knows of a training."""
    facts = heldout_facts(HeldOut.read(Path(str(options.dataset.heldout))), manifest)
    return {"dataset": cleaned(dataset_facts(manifest)), "heldout": facts}


def manifest_of(*parts: tuple[Part, list[str]]) -> Manifest:
    return Manifest(
        tuple(replace(p, files=tuple(ManifestFile(path, path, 1, "") for path in paths)) for p, paths in parts)
    )


@pytest.mark.parametrize("made", [True, False])
def test_two_configurations_of_one_dataset_are_two_sources(made: bool, tmp_path: Path) -> None:
    folder = tmp_path / "wiki"
    for n, config in enumerate(("en", "de")):
        (folder / config).mkdir(parents=True)
        rows = [text(i + 100 * n) for i in range(20)]
        pq.write_table(pa.table({"text": rows}), folder / config / "train.parquet")
    configs = "".join(f"- config_name: {c}\n  data_files: {c}/*.parquet\n" for c in ("en", "de"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    mixture = [{"name": str(folder), "config": config, "weight": 1} for config in ("en", "de")]
    chosen = choose(parse_mapping({"dataset_mixture": mixture, "heldout_fraction": 0.3}), {})
    if not made:
        chosen.slice.write(tmp_path / "heldout.parquet")
        options = parse_mapping({"heldout": str(tmp_path / "heldout.parquet")})
        assert chosen.manifest is not None
        chosen = choose(options, recorded(chosen.manifest, options))
    expected = {f"{folder} ({config})": folder / config / "train.parquet" for config in ("en", "de")}
    assert len(chosen.sources) == 12 and set(chosen.sources) == set(expected)
    for source, document in zip(chosen.sources, chosen.slice.texts, strict=True):
        assert document in pq.read_table(expected[source]).column("text").to_pylist()


def test_sources_of_one_name_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    def part(**facts: Any) -> Part:
        return Part(name="org/wiki", files=(), **facts)

    manifest = manifest_of(
        (part(config="en", revision="a" * 40), ["en/train.parquet", "en/both.parquet"]),
        (part(config="en", revision="b" * 40), ["en/new.parquet", "en/both.parquet"]),
        (part(config="en", revision="a" * 40, split="test"), ["en/test.parquet"]),
        (Part(name="org/books", config="en", files=()), ["a.parquet"]),
    )
    labels = [manifest.label(i) for i in range(6)]
    options = file_of(tmp_path / "heldout.parquet", [*labels, "elsewhere/a.parquet"])
    assert choose(options, recorded(manifest, options)).sources == (
        f"org/wiki (train, {'a' * 12})", "org/wiki", f"org/wiki (train, {'b' * 12})", "org/wiki",
        f"org/wiki (test, {'a' * 12})", "org/books", "unknown",
    )  # fmt: skip
    # A record of before says no more than the names.
    before = {"dataset": dataset_facts(manifest)}
    assert choose(options, before).sources == (*["org/wiki"] * 5, "org/books", "unknown")


@pytest.mark.parametrize("known", [True, False])
def test_sources_with_secrets_in_their_addresses_are_found(known: bool, tmp_path: Path) -> None:
    """The record that an evaluation sees has lost them, the labels of files have not."""
    manifest = manifest_of(
        (Part(name="https://me:pw@h/a.parquet?sig=x/y", files=()), ["a.parquet?sig=x/y"]),
        (Part(name="https://me:pw@h/b", files=()), ["c/b.parquet"]),
        (Part(name="s3://me:pw@bucket/b", files=()), ["b.parquet"]),
    )
    options = file_of(tmp_path / "heldout.parquet", [manifest.label(i) for i in range(3)])
    record = recorded(manifest, options)
    if not known:
        del record["heldout"]
    assert choose(options, record).sources == ("https://h/a.parquet", "https://h/b", "s3://bucket/b")


def test_sources_that_differ_in_their_secrets_alone_are_numbered(tmp_path: Path) -> None:
    manifest = manifest_of(*((Part(name=f"https://h/get?file={n}", files=()), [f"get?file={n}"]) for n in ("a", "b")))
    options = file_of(tmp_path / "heldout.parquet", [manifest.label(1), manifest.label(0)])
    found = choose(options, recorded(manifest, options)).sources
    assert found == ("https://h/get (source 2)", "https://h/get (source 1)")
