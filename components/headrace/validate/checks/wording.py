"""How findings speak of shares, places and numbers of things."""

from __future__ import annotations

from headrace.artifacts.report_format import count, percent
from headrace.validate.scan import Scan

FILES_NAMED = 20


def share_of_rows(n: int, found: Scan) -> str:
    """A number of rows as a share of those looked at."""
    return f"{percent(n / found.rows)} of the rows looked at ({count(n)} of {count(found.rows)})"


def things(n: int, one: str, many: str = "") -> str:
    """A number of things, in the singular where it is one."""
    return f"1 {one}" if n == 1 else f"{count(n)} {many or one + 's'}"


def some(names: list[str], most: int = 3) -> str:
    """A few names, and how many there are besides."""
    more = f" and {count(len(names) - most)} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
