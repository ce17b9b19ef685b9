"""Addresses as everyone may read them: no user, no query, however they are written."""

from __future__ import annotations

import pytest

from headrace.stream.addresses import cleaned, without_secrets


def test_secrets_are_cut_from_addresses_only() -> None:
    text = "the split of https://me:pw@host/a.parquet?sig=x#f and gs://bucket/*-?.parquet, of org/data"
    assert without_secrets(text) == "the split of https://host/a.parquet and gs://bucket/*-?.parquet, of org/data"
    assert cleaned({"a": ["s3://me:pw@b/c", 1], "b": None}) == {"a": ["s3://b/c", 1], "b": None}


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("HTTPS://u:pw@h/x?tok=1", "HTTPS://h/x"),
        ("S3://u:pw@b/c", "S3://b/c"),
        ("https://h/x?sig=a'b", "https://h/x"),
        ('https://h/x?sig=a"b<c>d', "https://h/x"),
        ("https://h/it's/x?sig=a'", "https://h/it's/x'"),
        ("http://[bad/x", "http://[bad/x"),
        ("http://u:pw@[bad/x?tok=1", "http://[bad/x"),
        (
            "'https://u:pw@h/x?sig=a', \"s3://u:pw@b/c\" and <https://h/x?sig=a>.",
            "'https://h/x', \"s3://b/c\" and <https://h/x>.",
        ),
        ("['https://h/a?sig=a','https://u:pw@h/b?sig=b']", "['https://h/a']"),
        ("s3://u:pw@b/c,https://u:pw@h/x?tok=1", "s3://b/c,https://h/x"),
        ("https://h/x?next=https://u:pw@h/y&sig=abc://def", "https://h/x"),
        ("hf://datasets/org/data@main/a.parquet", "hf://datasets/org/data@main/a.parquet"),
        ("file:///data/a?.parquet", "file:///data/a?.parquet"),
    ],
)
def test_no_spelling_of_an_address_keeps_a_secret(text: str, bare: str) -> None:
    assert without_secrets(text) == bare == without_secrets(bare)
