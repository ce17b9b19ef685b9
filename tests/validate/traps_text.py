"""Traps in the rows: nothing to train, damaged, personal, copied, of another language."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.validate.traps import CHINESE, GERMAN, prose, trap, varied, write


@trap(3, "no-go", "no-rows")
def no_rows(folder: Path) -> None:
    write(folder, 0, [])


@trap(3, "no-go", "no-tokens", "unusable-rows")
def nothing_but_blanks(folder: Path) -> None:
    write(folder, 0, ["", " ", "\n\t", None] * 10)


@trap(3, "no-go", "unusable-rows")
def mostly_nulls(folder: Path) -> None:
    write(folder, 0, [*prose(40), *[None] * 60])


@trap(0, "warn", "unusable-rows")
def a_tenth_blank(folder: Path) -> None:
    write(folder, 0, [*prose(90), *["  "] * 10])


@trap(3, "no-go", "duplicate-rows")
def all_the_same(folder: Path) -> None:
    for i in range(4):
        write(folder, i, prose(9) * 5)


@trap(3, "no-go", "duplicate-rows")
def a_shard_uploaded_three_times(folder: Path) -> None:
    for i in range(3):
        write(folder, i, prose(60))


@trap(0, "warn", "duplicate-rows")
def a_tenth_copied(folder: Path) -> None:
    write(folder, 0, prose(90))
    write(folder, 1, prose(10))


@trap(3, "no-go", "no-tokens", said="none is left to train on")
def one_document_that_is_held_out(folder: Path) -> None:
    write(folder, 0, prose(1))


@trap(3, "no-go", "no-tokens", also=["filtered-rows"], flags=["--dataset_filter", "score >= 0.9"])
def a_filter_that_keeps_nothing(folder: Path) -> None:
    write(folder, 0, prose(40), score=[0.1] * 40)


@trap(0, "warn", "damaged-text")
def mojibake(folder: Path) -> None:
    write(folder, 0, [t.encode().decode("latin-1") for t in varied(GERMAN, 80)])


@trap(0, "warn", "damaged-text")
def nul_bytes(folder: Path) -> None:
    write(folder, 0, [t[:50] + "\x00" + t[50:] for t in prose(80)])


@trap(0, "warn", "damaged-text")
def replacement_characters(folder: Path) -> None:
    write(folder, 0, [t.encode("latin-1", "replace").decode("utf-8", "replace") for t in varied(GERMAN, 80)])


@trap(0, "warn", "damaged-text")
def terminal_colours(folder: Path) -> None:
    write(folder, 0, [f"\x1b[31m{t}\x1b[0m" for t in prose(80)])


@trap(0, "go", also=["damaged-text"])
def a_few_damaged_rows(folder: Path) -> None:
    write(folder, 0, [*prose(97), *(t + "\ufffd" for t in prose(3, 100))])


@trap(0, "go", also=["column-drift", "text-drift"])
def wrong_language_after_shard_3(folder: Path) -> None:
    for i in range(8):
        texts = prose(60, 60 * i) if i < 4 else varied(GERMAN, 500)[60 * i : 60 * i + 60]
        write(folder, i, texts, language=["en" if i < 4 else "de"] * 60)


@trap(0, "go", also=["text-drift"])
def wrong_language_that_no_column_tells(folder: Path) -> None:
    for i in range(8):
        write(folder, i, prose(60, 60 * i) if i < 4 else varied(GERMAN, 500)[60 * i : 60 * i + 60])


@trap(0, "warn", "column-drift", flags=["--validate_thresholds", '{"warn_drift": 0.5}'])
def scores_that_fall_half_way_with_a_threshold(folder: Path) -> None:
    for i in range(6):
        scores = [(0.9 if i < 3 else 0.2) + j / 1000 for j in range(60)]
        write(folder, i, prose(60, 60 * i), language_score=scores)


@trap(0, "go", also=["column-drift"], flags=["--validate_thresholds", '{"warn_drift": 0.99}'])
def scores_that_fall_a_little_less_than_the_threshold(folder: Path) -> None:
    for i in range(6):
        scores = [(0.9 if i < 3 or j % 4 == 0 else 0.2) + j / 1000 for j in range(60)]
        write(folder, i, prose(60, 60 * i), language_score=scores)


@trap(0, "go", also=["tokenizer-fit"])
def chinese_for_an_english_tokenizer(folder: Path) -> None:
    write(folder, 0, varied(CHINESE, 80, ""))


@trap(0, "go", also=["long-documents"], flags=["--heldout_fraction", "0"])
def one_document_of_200_mb(folder: Path) -> None:
    giant = "the wheel turns and the water goes on to the next bucket \n" * (200 * 1000 * 1000 // 58)
    write(folder, 0, [*prose(30), giant], pa.large_string())


@trap(0, "go", also=["tiny-documents"])
def titles_only(folder: Path) -> None:
    write(folder, 0, [f"Mill {i}" for i in range(200)])


def secret(*parts: str) -> str:
    """A made-up secret, put together here so that no scanner takes this file for one."""
    return "".join(parts)


PERSONAL = [
    "write to jane.doe@mail.example.org today",
    "call +49 30 901820 or (212) 555-0187",
    "from 81.2.69.142 at noon",
    "card 4111 1111 1111 1111 expires soon",
    "pay to DE89 3704 0044 0532 0130 00",
]
SECRETS = [
    secret("AK", "IA", "IOSFODNN7EXAMPLE"),
    secret("gh", "p_", "a1B2" * 9),
    secret("h", "f_", "AbCdEfGhIj" * 4),
    secret("AI", "za", "SyA-1234567890abcdefghijklmnopqrstu"[:35]),
    secret("-----BEGIN RSA ", "PRIVATE KEY-----"),
    secret("ey", "JhbGciOiJIUzI1NiJ9", ".eyJzdWIiOiIxMjM0NTY3ODkwIn0", ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"),
]


@trap(0, "go", also=["personal-data"])
def personal_data(folder: Path) -> None:
    write(folder, 0, [f"{t} {PERSONAL[i % 5]}" for i, t in enumerate(prose(80))])


@trap(0, "go", also=["secrets"])
def keys_and_tokens(folder: Path) -> None:
    write(folder, 0, [f"{t}\n{SECRETS[i % len(SECRETS)]}\n" for i, t in enumerate(prose(80))])


@trap(0, "warn", "overlap", flags=["--heldout_fraction", "0.2"])
def near_copies_across_the_slice(folder: Path) -> None:
    for i in range(3):
        write(folder, i, [f"{t} Copy {i}." for t in prose(60)])


@trap(0, "go", also=["unknown-tokens"], model=False)
def words_that_the_tokenizer_lacks(folder: Path) -> Mapping[str, Any]:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "<eos>": 1, "the": 2, "of": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    place = folder.parent / "tokenizer"
    place.mkdir()
    tokenizer.save(str(place / "tokenizer.json"))
    (place / "tokenizer_config.json").write_text('{"eos_token": "<eos>"}')
    write(folder, 0, prose(80))
    return {"tokenizer": str(place)}
