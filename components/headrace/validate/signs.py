"""Signs that a text was damaged on its way: characters no writer types, and UTF-8 that was read as something else."""

from __future__ import annotations

import re

# Tab, newline, carriage return and form feed are ordinary in text; U+0085 is a line end in some.
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f]")
_REPLACEMENT = "\ufffd"

# What the bytes 0x80-0xBF become when read as Latin-1 or as Windows-1252.
_REST = "[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
_MOJIBAKE = re.compile(
    f"Ã{_REST}"  # é as Ã©
    "|Â[\xa0-\xbf]"  # a no-break space, £, «
    f"|â(?:€|\x80){_REST}"  # quotation marks, dashes, …
    f"|(?:[ÐÑÎÏ×ØÙ]{_REST}){{2}}"  # Cyrillic, Greek, Hebrew, Arabic: two letters, as one may be a capital and a quote
    f"|(?:[à-ï]{_REST}{_REST}){{2}}"  # Chinese, Japanese, Korean, Devanagari
    f"|ð(?:Ÿ|\x9f){_REST}"  # emoji
    "|ï¿½|ï»¿"  # a replacement character, a byte order mark
)


def has_control(text: str) -> bool:
    """Whether the text holds a control character that is no white space."""
    return _CONTROL.search(text) is not None


def has_replacement(text: str) -> bool:
    """Whether a decoder gave up on part of the text (U+FFFD)."""
    return _REPLACEMENT in text


def has_mojibake(text: str) -> bool:
    """Whether the text holds UTF-8 that was decoded as Latin-1 or Windows-1252."""
    return not text.isascii() and _MOJIBAKE.search(text) is not None
