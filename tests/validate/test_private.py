"""Personal data and secrets are told from numbers and words that only look like them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.validate import private
from tests.validate.traps import paragraphs
from tests.validate.traps_text import PERSONAL, SECRETS


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *zip(PERSONAL, ("email", "phone", "ip-address", "payment-card", "iban"), strict=True),
        ("card 4012-8888-8888-1881.", "payment-card"),
        ("(mail: a.b+c@example.co.uk)", "email"),
        ("her number is 212-555-0187.", "phone"),
        ("SSN 123-45-6789", "us-ssn"),
        ("at 8.8.8.8.", "ip-address"),
    ],
)
def test_signs_of_personal_data(text: str, kind: str) -> None:
    assert private.kinds(text)[kind] >= 1


def test_every_kind_of_secret_is_found_in_the_middle_of_text() -> None:
    for secret in SECRETS:
        found = private.kinds(f"the key={secret} is here")
        assert sum(found[k] for k in private.SECRETS) == 1, (secret[:4], found)


@pytest.mark.parametrize(
    "text",
    [
        "3.14159265358979323846264338327950288",
        "version 10.0.0.1, 192.168.1.1 and 127.0.0.1, 1.2.3.4.5 and 999.1.1.1",
        "on 2024-01-15 at 12:30:45, order 1234567890123456",
        "4111 1111 1111 1112",
        "0000 0000 0000 0000",
        "user@localhost and @handle and a@b",
        "0x4111111111111111 and 4111111111111111e5",
        "DE89 3704 0044 0532 0130 01",
        "hf_hub_download and ghp_ and AKIA and eyJ",
        "pages 100-200, 1,234,567.89 EUR, +5 degrees",
        "-----BEGIN CERTIFICATE-----",
        "000-12-3456 and 912-34-5678",
    ],
)
def test_what_only_looks_like_it_is_no_sign(text: str) -> None:
    assert not private.kinds(text)


@given(st.integers(0, 10**14 - 1), st.integers(0, 14), st.integers(1, 9))
def test_a_wrong_digit_breaks_the_checksum(number: int, place: int, change: int) -> None:
    digits = f"{number:014}"
    whole = next(digits + c for c in "0123456789" if private.luhn(digits + c))
    wrong = whole[:place] + str((int(whole[place]) + change) % 10) + whole[place + 1 :]
    assert private.luhn(whole) and not private.luhn(wrong)


def test_real_prose_holds_next_to_nothing() -> None:
    found = [private.kinds(p) for p in paragraphs()]
    assert not any(f[k] for f in found for k in (*private.SECRETS, "payment-card", "iban", "us-ssn", "phone"))
