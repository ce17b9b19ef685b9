"""What the page of a run says beside the run before it: how the scores moved, and what was done differently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.artifacts import report_format as show

Values = Mapping[str, Any]
MEASURES = (
    ("eval_loss", "Loss", "nats a token", 4, 1.0, "", -1),
    ("perplexity", "Perplexity", "", 2, 1.0, "", -1),
    ("accuracy", "Accuracy", "of the next token", 2, 100.0, " %", 1),
    ("bits_per_byte", "Bits a byte", "", 4, 1.0, "", -1),
)
"""Key, words, what it is of, digits, scale, sign of the value, and which way is better."""
_NAMING = {
    "model", "version", "commit_hash", "plan_hash", "ledger_head", "ledger", "gate", "durations", "hardware",
}  # fmt: skip
"""What differs between any two runs, or is no choice of anyone's."""
_MOST = 40


def compared(previous: Values, metrics: Values, lineage: Values) -> dict[str, Any] | None:
    """The section that sets a run beside the one before; None when that has no score. previous: name, and the two."""
    theirs = previous.get("metrics") or {}
    rows = list(_rows(theirs, metrics))
    if not rows:
        return None
    return {
        "name": str(previous.get("name") or "the run before"),
        "where": str(previous.get("where") or ""),
        "rows": rows,
        "caution": _caution(theirs, metrics),
        "changes": list(_changes(previous.get("lineage") or {}, lineage))[:_MOST],
    }


def _rows(before: Values, now: Values) -> Iterator[dict[str, Any]]:
    for key, name, of, digits, scale, sign, better in MEASURES:
        old, new = show.number(before.get(key)), show.number(now.get(key))
        if old is None or new is None:
            continue
        moved = round((new - old) * scale, digits)
        yield {
            "name": name,
            "unit": of,
            "before": show.decimal(old * scale, digits) + sign,
            "now": show.decimal(new * scale, digits) + sign,
            "change": f"{moved:+,.{digits}f}{sign}" if moved else "none",
            "tone": "" if not moved else "go" if moved * better > 0 else "no-go",
            "word": "" if not moved else "better" if moved * better > 0 else "worse",
        }


def _caution(before: Values, now: Values) -> str:
    """Why the two may not be compared as they stand, if anything says so."""
    if before.get("heldout") != now.get("heldout"):
        return "They were scored on different documents: a difference may come from those alone."
    if before.get("block") != now.get("block"):
        return "They were scored with a different number of tokens in view: a difference may come from that alone."
    return "Both were scored on the same documents."


def _changes(before: Values, now: Values) -> Iterator[dict[str, str]]:
    """What of the lineage differs, of data, training, code and packages."""
    old, new = dict(show.flat(_choices(before))), dict(show.flat(_choices(now)))
    for name in dict.fromkeys([*new, *old]):
        was, is_ = old.get(name, show.DASH), new.get(name, show.DASH)
        if was != is_:
            yield {"name": name, "before": was, "now": is_}


def _choices(lineage: Values) -> dict[str, Any]:
    return {key: value for key, value in lineage.items() if key not in _NAMING}
