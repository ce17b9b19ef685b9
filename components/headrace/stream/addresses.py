"""Addresses that carry what opens them: refused as flags, because addresses are kept; cut down where they are shown."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_plus

from headrace.errors import InputError

_PASSWORD = re.compile(r"""://[^/?#@\s:\["]*:(?!\d*(?:[/?#"]|$))\S+@""")
"""A colon before the path that no port follows, and an @ after it: also where a password has a / in it."""
_PARAMETER = re.compile(r"[?&;#]([^?&;#=\s/]+)=")
SECRET_PARAMETERS = frozenset(
    (
        "sig", "signature", "token", "accesstoken", "idtoken", "refreshtoken", "authtoken", "securitytoken", "sastoken",
        "key", "apikey", "accesskey", "secretkey", "accountkey", "accesskeyid", "awsaccesskeyid", "googleaccessid",
        "keypairid", "password", "passwd", "passphrase", "pwd", "secret", "clientsecret", "auth", "authorization",
        "credential", "credentials", "jwt", "bearer",
    )
)  # fmt: skip
"""Names of parameters, in small letters and without - and _. Azure's se, sp and sv are secret beside sig alone."""
SIGNED = ("xamz", "xgoog")
REMEDY = (
    "credentials belong in the environment or in a secret: HF_TOKEN, AWS_*, GOOGLE_APPLICATION_CREDENTIALS, or "
    "fsspec's own configuration file; a plain query is fine"
)


def secret_in(text: str) -> str | None:
    """What of an address looks like a credential, in words that do not repeat it; None where nothing does."""
    if "://" not in text:
        return None
    if _PASSWORD.search(text):
        return "a password before the host"
    for name in _PARAMETER.findall(text):
        plain = unquote_plus(name).lower().replace("-", "").replace("_", "")
        if plain in SECRET_PARAMETERS or plain.startswith(SIGNED):
            return f"the parameter {unquote_plus(name)!r}, a signature or a key"
    return None


def refuse_secrets(named: str, value: Any) -> None:
    """InputError when a text, or one anywhere in a list or mapping, is an address with a credential in it.

    named: where it stands, as a user knows it.
    """
    if isinstance(value, str):
        if (found := secret_in(value)) is not None:
            raise InputError(f"{named} has an address with {found}; it would be kept and shown in clear", REMEDY)
    elif isinstance(value, dict):
        for inner in value.values():
            refuse_secrets(named, inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            refuse_secrets(named, inner)


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
