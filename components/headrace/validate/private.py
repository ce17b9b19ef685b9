"""Signs of personal data and of secrets in text: counted by kind and place, never shown."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator

from headrace.validate.seen import Examples, Seen

LOOKED_AT = 1 << 18
"""Characters of a document that are looked at."""
PERSONAL = ("email", "phone", "ip-address", "payment-card", "iban", "us-ssn")
SECRETS = ("aws-key", "github-token", "huggingface-token", "google-key", "slack-token", "private-key", "jwt")

_EMAIL = re.compile(r"(?<![\w.+%-])[A-Za-z0-9][\w.+%-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])")
# Digits with the marks that people put between them; what they are is decided one by one.
_DIGITS = re.compile(r"(?<![\w.,/:=@#$+-])\+?\(?\d(?:[ .()-]{0,2}\d){6,18}(?![\w%]|[-.,/:]\d)")
_CARD = re.compile(r"[3-6]\d{12,18}|[3-6]\d{3}([ -])\d{4}\1\d{4}\1\d{4}|3[47]\d\d([ -])\d{6}\2\d{5}")
_NORTH_AMERICAN = re.compile(r"(?:\(\d{3}\) ?|\d{3}[-.])\d{3}[-.]\d{4}")
_SSN = re.compile(r"(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?!\w)")
_ADDRESS = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\w)")
_SECRETS = {
    "aws-key": (("AKIA", "ASIA"), re.compile(r"(?<!\w)(?:AKIA|ASIA)[A-Z0-9]{16}(?!\w)")),
    "github-token": (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        re.compile(r"(?<!\w)(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{60,255})(?!\w)"),
    ),
    "huggingface-token": (("hf_",), re.compile(r"(?<!\w)hf_[A-Za-z0-9]{30,64}(?!\w)")),
    "google-key": (("AIza",), re.compile(r"(?<![\w-])AIza[\w-]{35}(?![\w-])")),
    "slack-token": (("xox",), re.compile(r"(?<!\w)xox[abprs]-[\w-]{10,255}")),
    "private-key": (("-----BEGIN",), re.compile(r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----")),
    "jwt": (("eyJ",), re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}")),
}


def kinds(text: str) -> Counter[str]:
    """How often each kind occurs in a text."""
    found = Counter[str]()
    if "@" in text:
        found["email"] = len(_EMAIL.findall(text))
    for kind, (needles, pattern) in _SECRETS.items():
        if any(n in text for n in needles):
            found[kind] = len(pattern.findall(text))
    found.update(_of_digits(text))
    return +found


def _of_digits(text: str) -> Iterator[str]:
    for match in _DIGITS.finditer(text):
        if kind := number(match[0]):
            yield kind
    if "." in text:
        yield from ("ip-address" for m in _ADDRESS.finditer(text) if is_public(m[0]))
    yield from ("iban" for m in _IBAN.finditer(text) if is_iban(m[0]))


def number(text: str) -> str:
    """What kind of number some digits are: payment-card, phone, us-ssn; empty where nothing says that it is one."""
    digits = re.sub(r"\D", "", text)
    if _CARD.fullmatch(text) and luhn(digits) and len(set(digits)) > 1:
        return "payment-card"
    if _SSN.fullmatch(text):
        return "us-ssn"
    if (text[0] == "+" and 9 <= len(digits) <= 15) or _NORTH_AMERICAN.fullmatch(text):
        return "phone"
    return ""


def luhn(digits: str) -> bool:
    """Whether the last digit is the checksum of the others (ISO/IEC 7812-1)."""
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether an account number has the check digits of one (ISO 13616: 1 modulo 97)."""
    plain = text.replace(" ", "")
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def is_public(text: str) -> bool:
    """Whether an IPv4 address may be somebody's: neither private nor reserved nor for documentation."""
    try:
        return ipaddress.IPv4Address(text).is_global
    except ValueError:
        return False


class Sightings:
    """Counts of matches and of documents with any, by kind."""

    def __init__(self) -> None:
        self.matches, self.documents = Counter[str](), Counter[str]()
        self.examples = Examples()

    def look(self, seen: Seen) -> None:
        """Look at the beginning of every document."""
        for text, place in zip(seen.documents, seen.places, strict=True):
            found = kinds(text[:LOOKED_AT])
            self.matches.update(found)
            self.documents.update(found.keys())
            for kind in found:
                self.examples.note(kind, place)
