"""Numbers as a reader wants them: grouped, rounded, with units; a dash for what is not known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

DASH = "–"
_SHORT = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def number(value: object) -> float | None:
    """The value as a finite float, or None: JSON's null, text and booleans are no numbers here."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def decimal(value: object, digits: int = 3) -> str:
    """A fixed number of decimals, thousands grouped."""
    n = number(value)
    return DASH if n is None else f"{n:,.{digits}f}"


def count(value: object) -> str:
    """A whole number with its thousands grouped."""
    return decimal(value, 0)


def _scaled(value: object, steps: tuple[tuple[float, str], ...], smallest: str) -> str:
    n = number(value)
    if n is None:
        return DASH
    for size, unit in steps:
        # 999.95 k is shown as 1.00 M, never as 1000 k.
        if abs(n) >= size * 0.9995:
            return f"{significant(n / size)} {unit}"
    return f"{significant(n)}{smallest}"


def short(value: object) -> str:
    """Three significant digits and k, M, B or T."""
    return _scaled(value, _SHORT, "")


def headline(value: object) -> str:
    """A whole number in full while it is short enough to read at a glance."""
    n = number(value)
    return short(value) if n is None or n >= 1e5 else count(value)


def size(value: object) -> str:
    """Bytes in decimal units."""
    return _scaled(value, _SIZES, " bytes")


def significant(value: object, digits: int = 3) -> str:
    """A number rounded to some significant digits, without an exponent while it is of everyday size."""
    n = number(value)
    if n is None:
        return DASH
    if n != 0 and not 1e-4 <= abs(n) < 1e9:
        return f"{n:.{digits - 1}e}"
    if n == 0 or (n == int(n) and abs(n) >= 10 ** (digits - 1)):
        return f"{n:,.0f}"
    rounded = float(f"{n:.{digits - 1}e}")  # 0.9996 has the decimals of 1.00
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    text = f"{n:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if n == int(n) else text


def percent(value: object, digits: int = 1) -> str:
    """A share as a percentage."""
    n = number(value)
    return DASH if n is None else f"{100 * n:.{digits}f} %"


def duration(seconds: object) -> str:
    """Seconds as the two largest units that matter."""
    n = number(seconds)
    if n is None:
        return DASH
    if n < 60:
        return f"{significant(n, 2)} s"
    minutes, rest = divmod(round(n), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"


def interval(bounds: object, digits: int = 3, scale: float = 1.0) -> str:
    """`low – high`, or an empty text where there is no interval."""
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return ""
    low, high = number(bounds[0]), number(bounds[1])
    if low is None or high is None:
        return ""
    return f"{decimal(low * scale, digits)} – {decimal(high * scale, digits)}"


def plain(value: object) -> str:
    """Any JSON value in one line of text."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return significant(value, 4)
    if isinstance(value, list | tuple):
        return ", ".join(plain(v) for v in value) or DASH
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {plain(v)}" for k, v in value.items()) or DASH
    return str(value)


def flat(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of a nested object, names joined by ` · `."""
    for key, inner in value.items():
        name = f"{above} · {label(key)}" if above else label(key)
        if isinstance(inner, Mapping) and inner:
            yield from flat(inner, name)
        else:
            yield name, plain(inner)


def label(key: object) -> str:
    """A JSON key as words."""
    return str(key).replace("_", " ")
