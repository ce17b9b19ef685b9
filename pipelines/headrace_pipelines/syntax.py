"""Kubernetes' own rules for names, labels, quantities and places, as types of the cluster file's fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

_PART = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DOMAIN = re.compile(rf"{_PART}(\.{_PART})*")
_WORD = re.compile(r"[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?")
_SECRET_KEY, _VARIABLE = re.compile(r"[-._a-zA-Z0-9]+"), re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_CPU, _BYTES = re.compile(r"\d+(\.\d+)?|\d+m"), re.compile(r"\d+([MGTPE]|[KMGTPE]i)?")
NAME_LENGTH, WORD_LENGTH = 253, 63
TMP, SHM = "/tmp", "/dev/shm"


def _name(text: str) -> bool:
    """A DNS-1123 subdomain, as secrets, claims, accounts and classes are called."""
    return len(text) <= NAME_LENGTH and _DOMAIN.fullmatch(text) is not None


def _word(text: str) -> bool:
    return len(text) <= WORD_LENGTH and _WORD.fullmatch(text) is not None


def _key(text: str) -> bool:
    """A qualified name: `app`, `example.org/app`."""
    prefix, slash, word = text.rpartition("/")
    return _word(word) and (not slash or _name(prefix))


def _some(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    """Whether a quantity has that form and is more than none."""
    return lambda text: pattern.fullmatch(text) is not None and re.search("[1-9]", text) is not None


def _expected(fits: Callable[[str], bool], what: str) -> AfterValidator:
    def check(text: str) -> str:
        if not fits(text):
            raise PydanticCustomError("kubernetes", "expected {what}", {"what": what})
        return text

    return AfterValidator(check)


Cpu = Annotated[str, _expected(_some(_CPU), "CPUs, more than 0, such as 2, 0.5 or 500m")]
# Not k: kfp takes K in its place, and Kubernetes does not.
Bytes = Annotated[str, _expected(_some(_BYTES), "bytes, more than 0, such as 8Gi or 500M (Ki Mi Gi …, M G …)")]
Folder = Annotated[
    str, _expected(lambda text: re.fullmatch(r"/+[^:/][^:]*", text) is not None, "an absolute path without a colon")
]
Name = Annotated[str, _expected(_name, f"a name of small letters, digits, - and ., at most {NAME_LENGTH}")]
Key = Annotated[
    str, _expected(_key, f"a key such as app or example.org/app: letters, digits, - _ and ., at most {WORD_LENGTH}")
]
LabelValue = Annotated[
    str,
    _expected(lambda text: not text or _word(text), f"nothing or letters, digits, - _ and ., at most {WORD_LENGTH}"),
]
SecretKey = Annotated[
    str,
    _expected(
        lambda text: len(text) <= NAME_LENGTH and _SECRET_KEY.fullmatch(text) is not None, "letters, digits, - _ and ."
    ),
]
Variable = Annotated[
    str,
    _expected(lambda text: _VARIABLE.fullmatch(text) is not None, "the name of a variable: letters, digits, - _ and ."),
]


def clash(folders: Iterable[str], taken: Iterable[str]) -> str | None:
    """The first folder that something else in the pod has already; None when each has its own."""
    seen = set(taken)
    for folder in folders:
        plain = "/" + "/".join(part for part in folder.split("/") if part not in ("", "."))
        if plain in seen:
            return folder
        seen.add(plain)
    return None
