"""Addresses as they may be shown to everyone."""

from __future__ import annotations

import re
from typing import Any

_ADDRESS = re.compile(r"""[a-z][a-z0-9+.-]*://\S+?(?=['"`<>][])},.;:'"`<>]*(?:\s|$)|\s|$)""", re.IGNORECASE)
"""To the next space. Quotes and brackets are part of it, as they are of some tokens, unless nothing follows them."""
_AFTER_PATH = re.compile(r"(https?://[^?#]*)[?#].*", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/?#]*@")


def without_secrets(text: str) -> str:
    """A text whose URLs have lost user and password, and on the web query and fragment: where tokens stand."""
    return _ADDRESS.sub(lambda match: _bare(match[0]), text)


def _bare(address: str) -> str:
    # Elsewhere than on the web `?` is part of a glob. Not parsed: what is no valid URL may have secrets too.
    return _USER.sub("", _AFTER_PATH.sub(r"\1", address))


def cleaned(value: Any) -> Any:
    """The same JSON value with `without_secrets` applied to every text in it."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {k: cleaned(v) for k, v in value.items()}
    return [cleaned(v) for v in value] if isinstance(value, list) else value
