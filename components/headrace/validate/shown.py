"""What a report may show of columns: their names, and values that are codes; nothing that may be somebody's."""

from __future__ import annotations

import re
from collections.abc import Collection

from headrace.validate.private import kinds

CODE_CHARACTERS, NAME_CHARACTERS = 20, 40
MOST_DIGITS = 6
"""A code has a year and a number; telephone numbers, accounts and dates of birth have more digits."""
LARGEST_CODE = 10**MOST_DIGITS
NAMES_SHOWN = 20
_CODE = re.compile(r"(?:[A-Za-z0-9_+/-]|(?<=\d)\.(?=\d))*")
_NAME = re.compile(r"[^\s@$\\]+")
_CAPITALISED = re.compile(r"(?!(?:True|False)$)[A-Z][a-z]")
_RUNS = re.compile(r"[A-Za-z0-9]+")
_MIXED_RUN = 6
"""Codes mix letters and digits in short (c4, gpt2), passwords and tokens at length."""
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_PERSONAL = {
    "account", "address", "author", "authors", "by", "card", "contact", "email", "fax", "handle", "iban", "ip", "key",
    "login", "mail", "mobile", "name", "nick", "nickname", "owner", "passport", "passwd", "password", "person", "phone",
    "pwd", "secret", "sender", "signature", "ssn", "street", "tel", "telephone", "uid", "user", "username", "users",
}  # fmt: skip


def is_code(value: str) -> bool:
    """Whether a value is one such as `en`, `zh-Hans`, `CC-MAIN-2024-10`, `true`, `7`: short, and nobody's words."""
    return (
        len(value) <= CODE_CHARACTERS
        and _CODE.fullmatch(value) is not None
        and sum(map(str.isdigit, value)) <= MOST_DIGITS
        and not _CAPITALISED.match(value)
        and all(run.isalpha() or len(run) <= _MIXED_RUN for run in _RUNS.findall(value))
        and not kinds(value)
    )


def is_name(name: str) -> bool:
    """Whether a column's name is one, and no data that serves as a key."""
    return (
        len(name) <= NAME_CHARACTERS
        and _NAME.fullmatch(name) is not None
        and name.isprintable()
        and sum(map(str.isdigit, name)) <= MOST_DIGITS
        and not kinds(name)
    )


def is_personal(name: str) -> bool:
    """Whether a column is named as those are that say who somebody is, or how to reach them."""
    return not _PERSONAL.isdisjoint(words(name))


def words(name: str) -> set[str]:
    """The words that a name is made of, in small letters."""
    return {part.lower() for part in _PARTS.findall(name)}


def named(names: Collection[str]) -> tuple[list[str], int]:
    """The names of some columns that may be shown, and how many are not."""
    shown = sorted(filter(is_name, names))[:NAMES_SHOWN]
    return shown, len(names) - len(shown)
