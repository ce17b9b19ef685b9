"""Addresses as they may be shown to everyone."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit


def without_secrets(text: str) -> str:
    """A text whose URLs have lost user and password, and on the web query and fragment: where tokens stand."""
    return re.sub(r"[a-z][a-z0-9+.-]*://[^\s'\"<>]+", lambda match: _bare(match[0]), text)


def _bare(url: str) -> str:
    parts = urlsplit(url)
    web = parts.scheme in ("http", "https")  # elsewhere `?` is part of a glob
    query, fragment = ("", "") if web else (parts.query, parts.fragment)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, fragment))


def cleaned(value: Any) -> Any:
    """The same JSON value with `without_secrets` applied to every text in it."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {k: cleaned(v) for k, v in value.items()}
    return [cleaned(v) for v in value] if isinstance(value, list) else value
