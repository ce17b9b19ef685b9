"""Text to token ids and back, from a model's own tokenizer file, without transformers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from headrace.errors import HeadraceError, InputError
from headrace.stream.fast import Encode, fast_encode

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "config.json",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
)
"""What `load_encoder` and `load_limits` read; none of it holds weights."""


class Encoder:
    """A tokenizer whose hash names the ids it gives, and the id that ends a document."""

    def __init__(self, tokenizer: Tokenizer, *, eos_id: int, name: str) -> None:
        if dropout := getattr(tokenizer.model, "dropout", None):
            raise InputError(
                f"{name}: its tokenizer draws ids at random (dropout {dropout:g})",
                "set model.dropout to null in its tokenizer.json",
            )
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self.name, self.eos_id = name, eos_id
        self.size = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.hash = hashlib.sha256(f"{eos_id}\n{tokenizer.to_str()}".encode()).hexdigest()

        self._encode: Encode = self._encode_slowly

    @property
    def implementation(self) -> str:
        """What encodes: `tokenizers`, or the fast one that was proven to give the same ids."""
        return "tokenizers" if self._encode == self._encode_slowly else "fastokens"

    @cached_property
    def unknown_id(self) -> int | None:
        """The id that stands for what the vocabulary lacks; None where there is no such token."""
        model = json.loads(self._tokenizer.to_str())["model"]
        if model.get("unk_id") is not None:  # of Unigram
            return int(model["unk_id"])
        token = model.get("unk_token")
        return None if token is None else self._tokenizer.token_to_id(token)

    @cached_property
    def byte_ids(self) -> frozenset[int]:
        """Ids of the tokens for single bytes that a vocabulary falls back to; empty where it does not."""
        if not getattr(self._tokenizer.model, "byte_fallback", False):
            return frozenset()
        found = (self._tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
        return frozenset(i for i in found if i is not None)

    def accelerate(self, real: Sequence[str]) -> None:
        """Use a faster implementation when it gives the same ids on hard cases and these documents."""
        special = [str(t.content) for t in self._tokenizer.get_added_tokens_decoder().values()]
        self._encode = fast_encode(self._tokenizer.to_str(), self._encode_slowly, special, real) or self._encode_slowly

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Flat ids int32 [n] and offsets int64 [len(texts) + 1]; no special token is added."""
        return self._encode(texts)

    def _encode_slowly(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        parts = [
            np.asarray(e.ids, np.int32)
            for e in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ]
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(p) for p in parts], out=offsets[1:])
        return (np.concatenate(parts) if parts else np.empty(0, np.int32)), offsets

    def decode(self, ids: Sequence[int] | NDArray[np.integer[Any]]) -> str:
        """The text of some ids, special tokens included."""
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)


@dataclass(frozen=True)
class ModelLimits:
    """What a model's configuration says of the tokens it takes. max_positions: None where it has no limit."""

    model_type: str
    vocab_size: int
    max_positions: int | None


def model_folder(location: str, *, revision: str | None = None) -> Path:
    """A folder with the small files of a model: the one named, or the Hub's cache of them; never weights."""
    folder = Path(location).expanduser()
    if folder.is_dir():
        return folder
    if location.startswith(("/", ".", "~")) or location.count("/") > 1:
        raise InputError(f"there is no model folder {location}", "check --model_name_or_path and --tokenizer")
    return _from_hub(location, revision)


def _from_hub(name: str, revision: str | None) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except RevisionNotFoundError as error:
        raise InputError(f"{name} has no revision {revision!r}", "set --model_revision") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(
            f"there is no folder and no Hub model {name!r} that this token may read",
            "check the spelling; a private model needs HF_TOKEN",
        ) from error
    except (HfHubHTTPError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise HeadraceError(
            f"cannot fetch {name} from the Hub: {first}", "check the network, then run again"
        ) from error


def load_encoder(location: str, *, revision: str | None = None) -> Encoder:
    """The tokenizer of a model folder or Hub name; InputError when it has none that this can read."""
    folder = model_folder(location, revision=revision)
    tokenizer = _tokenizer(folder, location)
    return Encoder(tokenizer, eos_id=_eos(folder, tokenizer, location), name=location)


def _tokenizer(folder: Path, location: str) -> Tokenizer:
    try:
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            # GPT-2's older layout; its files say nothing of the byte-level steps around the merges.
            tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            if tokenizer.token_to_id("<|endoftext|>") is not None:
                tokenizer.add_special_tokens(["<|endoftext|>"])
            return tokenizer
    except Exception as error:  # the library raises plain Exception for a file it cannot parse
        raise InputError(f"{location}: its tokenizer cannot be read: {error}", "name another --tokenizer") from error
    raise InputError(
        f"{location} has no tokenizer.json (nor vocab.json with merges.txt)",
        "name a folder or Hub model that has one with --tokenizer",
    )


def _eos(folder: Path, tokenizer: Tokenizer, location: str) -> int:
    token = _json(folder / "tokenizer_config.json").get("eos_token")
    if isinstance(token, dict):
        token = token.get("content")
    if token is not None:
        found = tokenizer.token_to_id(str(token))
        if found is None:
            raise InputError(f"{location}: its eos_token {token!r} is not in its vocabulary", "mend the tokenizer")
        return int(found)
    for name in ("config.json", "generation_config.json"):
        value = _json(folder / name).get("eos_token_id")
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, int):
            return value
    raise InputError(
        f"{location} names no end-of-text token",
        "set eos_token in its tokenizer_config.json, or use another --tokenizer",
    )


def load_limits(location: str, *, revision: str | None = None) -> ModelLimits:
    """Vocabulary and positions from config.json; InputError when there is none."""
    folder = model_folder(location, revision=revision)
    config = _json(folder / "config.json")
    if not config:
        raise InputError(f"{location} has no config.json", "name a model in Hugging Face's layout")
    nested = config.get("text_config")
    text = nested if isinstance(nested, dict) else config
    vocabulary = text.get("vocab_size", 50257 if config.get("model_type") == "gpt2" else None)
    if not isinstance(vocabulary, int):
        raise InputError(f"{location}: config.json has no vocab_size", "name a causal language model")
    positions = next(
        (text[k] for k in ("n_positions", "max_position_embeddings", "max_seq_len", "n_ctx") if k in text),
        None,
    )
    if positions is None and config.get("model_type") == "gpt2":
        positions = 1024
    return ModelLimits(str(config.get("model_type", "")), vocabulary, positions)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    return value if isinstance(value, dict) else {}
