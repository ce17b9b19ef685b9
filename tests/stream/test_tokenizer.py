"""Tokenizers: the model's own ids, whatever implementation gives them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import InputError
from headrace.stream.documents import Reader
from headrace.stream.fast import AWKWARD, fast_encode
from headrace.stream.manifest import Manifest
from headrace.stream.tokenizer import Encoder, load_encoder, load_limits
from tests.stream.conftest import TINY

HARD = [*AWKWARD, "a<|endoftext|>b<|endoftext|>", "<|endoftext", "|>"]


def test_ids_are_those_of_transformers(encoder: Encoder) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(TINY)
    ids, offsets = encoder.encode(HARD)
    for i, text in enumerate(HARD):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == theirs(text, add_special_tokens=False)["input_ids"], text
    assert encoder.eos_id == theirs.eos_token_id and encoder.size == len(theirs)


def test_flat_arrays_and_back(encoder: Encoder) -> None:
    ids, offsets = encoder.encode(["one text", "", "another"])
    assert ids.dtype == np.int32 and offsets.dtype == np.int64 and offsets[1] == offsets[2]
    assert encoder.decode(ids[offsets[2] :]) == "another"
    empty, none = encoder.encode([])
    assert len(empty) == 0 and none.tolist() == [0]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(), max_size=4))
def test_the_fast_one_gives_the_same_ids(texts: list[str]) -> None:
    slow, fast = load_encoder(str(TINY)), FAST
    (a, b), (c, d) = slow.encode(texts), fast.encode(texts)
    assert a.tolist() == c.tolist() and b.tolist() == d.tolist()


FAST = load_encoder(str(TINY))
FAST.accelerate(HARD)


def test_the_fast_one_is_used_and_agrees_on_the_corpus(encoder: Encoder, pydocs: Manifest) -> None:
    assert FAST.implementation == "fastokens" and FAST.hash == encoder.hash
    texts = [d.text or "" for d in Reader(pydocs).rows()]
    assert np.array_equal(FAST.encode(texts)[0], encoder.encode(texts)[0])


@pytest.mark.parametrize("wrong", ["other ids", "a crash"])
def test_one_that_differs_is_not_used(wrong: str, encoder: Encoder, caplog: pytest.LogCaptureFixture) -> None:
    def slow(texts: object) -> object:
        ids, offsets = encoder.encode(texts)  # type: ignore[arg-type]
        if wrong == "a crash":
            raise ValueError(wrong)
        return ids[::-1], offsets

    with caplog.at_level("INFO"):
        assert fast_encode((TINY / "tokenizer.json").read_text(), slow, [], ["text"]) is None  # type: ignore[arg-type]
    assert "the fast tokenizer is not used" in caplog.text


def test_a_tokenizer_that_the_fast_one_cannot_read_falls_back(tmp_path: Path) -> None:
    """Unigram, as in SentencePiece models."""
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), ("a", -1.0), ("b", -2.0)], unk_id=0))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    encoder = load_encoder(str(tmp_path))
    encoder.accelerate(["ab"])
    assert encoder.encode(["ab"])[0].tolist() == [2, 3] and encoder.eos_id == 1


def test_one_that_draws_its_ids_at_random_is_refused(tmp_path: Path) -> None:
    """Byte-pair dropout: two runs over one text would train on different ids under one hash."""
    file = json.loads((TINY / "tokenizer.json").read_text())
    file["model"]["dropout"] = 0.1
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    shutil.copy(TINY / "tokenizer_config.json", tmp_path)
    with pytest.raises(InputError, match=r"draws ids at random \(dropout 0.1\)"):
        load_encoder(str(tmp_path))


def test_vocab_and_merges_without_tokenizer_json(tmp_path: Path, encoder: Encoder) -> None:
    model = json.loads((TINY / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    shutil.copy(TINY / "tokenizer_config.json", tmp_path)
    found = load_encoder(str(tmp_path))
    assert found.encode(HARD)[0].tolist() == encoder.encode(HARD)[0].tolist()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no tokenizer.json"),
        ({"tokenizer.json": "{"}, "cannot be read"),
        ({"tokenizer.json": None}, "no end-of-text token"),
        ({"tokenizer.json": None, "tokenizer_config.json": '{"eos_token": "</none>"}'}, "not in its vocabulary"),
        ({"tokenizer.json": None, "tokenizer_config.json": "["}, "not JSON"),
    ],
)
def test_what_cannot_be_used_is_said(files: dict[str, str | None], said: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content if content is not None else (TINY / name).read_text())
    with pytest.raises(InputError, match=said):
        load_encoder(str(tmp_path))


def test_limits_come_from_the_configuration_alone(tmp_path: Path) -> None:
    limits = load_limits(str(TINY))
    assert (limits.model_type, limits.vocab_size, limits.max_positions) == ("gpt2", 4096, 256)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert load_limits(str(tmp_path)).max_positions == 1024
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 9, "max_position_embeddings": 12}')
    assert load_limits(str(tmp_path)).max_positions == 12
    with pytest.raises(InputError, match="no model folder"):
        load_limits(str(tmp_path / "none"))
