"""Tokenizer files built as each model family's are: the file's own ids, on the fast path or off it."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors, trainers
from tokenizers import pre_tokenizers as pre

from headrace.stream.fast import AWKWARD
from headrace.stream.tokenizer import Encoder, load_encoder
from tests.stream.conftest import PYDOCS

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = [f"<0x{b:02X}>" for b in range(256)]
CHARSMAP = struct.pack("<I", 1024) + bytes(1024)  # a compiled SentencePiece map, as T5's, that changes nothing
CORPUS = [str(t) for f in sorted(PYDOCS.rglob("*.parquet")) for t in pq.read_table(f)["text"].to_pylist()]


@cache
def trained(kind: str) -> dict[str, Any]:
    """The `model` of a file: byte-pair encoding over bytes or over characters, or Unigram."""
    tokenizer, texts = Tokenizer(models.BPE()), CORPUS
    alphabet = pre.ByteLevel.alphabet() if kind == "bytes" else []
    trainer: Any = trainers.BpeTrainer(vocab_size=1000, initial_alphabet=alphabet, show_progress=False)
    if kind == "Unigram":
        tokenizer, texts = Tokenizer(models.Unigram()), [t[:1000] for t in texts]
        trainer = trainers.UnigramTrainer(vocab_size=400, show_progress=False)
    tokenizer.pre_tokenizer = pre.ByteLevel(add_prefix_space=False) if kind == "bytes" else pre.Metaspace()
    tokenizer.train_from_iterator(texts, trainer)
    return dict(json.loads(tokenizer.to_str())["model"])


def bpe(kind: str, before: Sequence[str] = (), **options: Any) -> Tokenizer:
    found = trained(kind)  # "Ġnowhere" is a token that no merge makes
    vocab = {t: i for i, t in enumerate([*before, *found["vocab"], "Ġnowhere"])}
    return Tokenizer(models.BPE(vocab, [(a, b) for a, b in found["merges"]], **options))


def add(tokenizer: Tokenizer, names: Sequence[str], single: str = "$A", *, special: bool = True) -> Tokenizer:
    """With these added tokens, and a post-processor that puts some around a text."""
    tokenizer.add_tokens([AddedToken(n, normalized=False, special=special) for n in names])
    around = [(n, tokenizer.token_to_id(n)) for n in single.split() if n != "$A"]
    template = processors.TemplateProcessing(single, None, around)
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def byte_level(split: str = "", **options: Any) -> Tokenizer:
    tokenizer, level = bpe("bytes", **options), pre.ByteLevel(add_prefix_space=False, use_regex=not split)
    tokenizer.pre_tokenizer = pre.Sequence([pre.Split(Regex(split), "isolated"), level]) if split else level
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def gpt2() -> Tokenizer:
    return add(byte_level(), ["<|endoftext|>"])


def llama3() -> Tokenizer:
    names = ["begin_of_text", "end_of_text", "eot_id", *(f"reserved_special_token_{i}" for i in range(250))]
    return add(byte_level(LLAMA3, ignore_merges=True), [f"<|{n}|>" for n in names], "<|begin_of_text|> $A")


def qwen() -> Tokenizer:
    tokenizer = add(byte_level(LLAMA3.replace("{1,3}", "")), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.normalizer = normalizers.NFC()
    return add(tokenizer, ["<tool_call>", "</tool_call>", "<think>", "</think>"], special=False)


def llama2() -> Tokenizer:
    """SentencePiece's BPE: a whole text is one word."""
    special = ["<unk>", "<s>", "</s>"]
    tokenizer = bpe("characters", [*special, *BYTES], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return add(tokenizer, special, "<s> $A")


def unigram(first: Sequence[str], special: Sequence[str], normalizer: Any, *, byte_fallback: bool) -> Tokenizer:
    vocab = [*((t, 0.0) for t in first), *((t, s) for t, s in trained("Unigram")["vocab"] if t not in first)]
    tokenizer = Tokenizer(models.Unigram(vocab, first.index("<unk>"), byte_fallback))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return add(tokenizer, special, "$A </s>")


def t5() -> Tokenizer:
    special = ["<pad>", "</s>", "<unk>", *(f"<extra_id_{i}>" for i in range(9))]
    return unigram(special, special, normalizers.Precompiled(CHARSMAP), byte_fallback=False)


def unigram_bytes() -> Tokenizer:
    special = ["<s>", "</s>", "<unk>"]
    normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.Replace(Regex(" {2,}"), " ")])
    return unigram([*special, *BYTES], special, normalizer, byte_fallback=True)


@dataclass(frozen=True)
class Family:
    """slow: why the fast one is not used today. adds: special tokens around a text. returns: which texts come back."""

    make: Callable[[], Tokenizer]
    eos: str
    slow: str = ""
    adds: int = 0
    returns: Callable[[str], object] = lambda text: True


WORDS = re.compile(r"([A-Za-z]+( [A-Za-z]+)*)?")
FAMILIES = [
    Family(gpt2, "<|endoftext|>"),
    Family(llama3, "<|end_of_text|>", adds=1),
    Family(qwen, "<|im_end|>", returns=lambda text: normalizers.NFC().normalize_str(text) == text),
    Family(llama2, "</s>", adds=1, returns=lambda text: re.search("▁|</?s>|<unk>", text) is None),
    Family(t5, "</s>", "unsupported normalizer type: Precompiled", 1, WORDS.fullmatch),
    Family(unigram_bytes, "</s>", "unsupported normalizer", 1, WORDS.fullmatch),
]
ENDS = ["<|endoftext|>", "<|im_start|>", "<think>", "<|begin_of_text|>", "<s>", "</s>", "<extra_id_0>", " nowhere"]
PIECES = st.sampled_from([*ENDS, "<|", "|>", " ", "\n", " \n ", "\r\n", "1234567", "'LL", "e\u0301", "▁"])
TEXTS = st.lists(st.lists(st.text() | PIECES, max_size=8).map("".join), max_size=4)
CUT = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
FILL = {"direction": "Right", "strategy": {"Fixed": 64}, "pad_id": 0, "pad_type_id": 0, "pad_token": "!"}


@dataclass(frozen=True)
class Built:
    family: Family
    own: Tokenizer
    folder: Path
    slow: Encoder
    fast: Encoder

    def check(self, texts: Sequence[str]) -> None:
        """The ids are the file's own before and after `accelerate`, and the text comes back where that is promised."""
        own = [e.ids for e in self.own.encode_batch_fast(list(texts), add_special_tokens=False)]
        for encoder in (self.slow, self.fast):
            ids, offsets = encoder.encode(texts)
            assert [ids[a:b].tolist() for a, b in pairwise(offsets)] == own
        back = {t: self.fast.decode(i) for t, i in zip(texts, own, strict=True) if self.family.returns(t)}
        assert back == {t: t for t in back}


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda f: f.make.__name__)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A model folder whose tokenizer file also cuts and pads; its encoder, and one that was accelerated."""
    family: Family = request.param
    own, folder = Tokenizer.from_str(family.make().to_str()), tmp_path_factory.mktemp("model")
    (folder / "tokenizer.json").write_text(json.dumps(json.loads(own.to_str()) | {"truncation": CUT, "padding": FILL}))
    eos = {"__type": "AddedToken", "content": family.eos, "special": True} if family.make is llama3 else family.eos
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": own.get_vocab_size()}))
    slow, fast = load_encoder(str(folder)), load_encoder(str(folder))
    fast.accelerate(CORPUS[:9])
    return Built(family, own, folder, slow, fast)


def test_real_awkward_very_long_and_special_texts_have_the_files_own_ids(built: Built) -> None:
    special = {str(t.content): i for i, t in built.own.get_added_tokens_decoder().items()}
    words = " ".join(re.findall("[A-Za-z]+", CORPUS[0]))
    built.check([*AWKWARD, words, *CORPUS[:3], "".join(CORPUS)[:1_000_000] + "1234567890" * 6_000])
    built.check([t for s in special for t in (f"a{s}{s} b", f" {s} \n{s}\n")])
    assert built.fast.encode(list(special))[0].tolist() == list(special.values())


@settings(max_examples=40, deadline=None)
@given(TEXTS)
def test_any_text_has_the_same_ids_on_both_paths(built: Built, texts: list[str]) -> None:
    built.check(texts)


def test_the_fast_one_is_used_or_the_log_says_why_not(built: Built, caplog: pytest.LogCaptureFixture) -> None:
    encoder, why = load_encoder(str(built.folder)), built.family.slow
    with caplog.at_level("INFO"):
        encoder.accelerate(CORPUS[:2])
    assert encoder.implementation == built.fast.implementation == ("tokenizers" if why else "fastokens")
    assert ("the fast tokenizer is not used" in caplog.text and why in caplog.text) if why else not caplog.text


def test_nothing_is_added_cut_or_padded_and_the_hash_stays(built: Built) -> None:
    assert len(built.own.encode("text").ids) == len(built.fast.encode(["text"])[0]) + built.family.adds
    assert built.fast.eos_id == built.own.token_to_id(built.family.eos)
    plain = Encoder(built.own, eos_id=built.slow.eos_id, name="without truncation and padding")
    assert built.fast.hash == built.slow.hash == plain.hash
