"""Why a file cannot be trained on, told apart by what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from headrace.errors import InputError
from headrace.stream.source import nearest

Kind = Literal["unreadable", "missing-column", "wrong-type"]
REMEDIES: dict[Kind, str] = {
    "unreadable": "replace the file, or leave it out of --dataset_name",
    "missing-column": "set --dataset_text_field",
    "wrong-type": "set --dataset_text_field to a column of text",
}


class Unfit(InputError):
    """A file of the dataset that lacks what is read from it. columns: those that it has, where that is known."""

    def __init__(self, kind: Kind, message: str, columns: tuple[str, ...] = (), remedy: str = "") -> None:
        super().__init__(message, remedy or REMEDIES[kind])
        self.kind, self.columns = kind, columns


def no_column(column: str, names: Sequence[str]) -> Unfit:
    """The error for a column that is not among those that there are."""
    return Unfit("missing-column", f"no column {column!r}{nearest(column, names)}", tuple(names))
