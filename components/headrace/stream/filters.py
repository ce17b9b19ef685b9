"""Rows left out by what stands in their columns: `language_score >= 0.65`, `language == en`, `characters > 200`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.errors import InputError

CHARACTERS = "characters"
"""No column: the length of the text in Unicode characters."""
_COMPARE = {
    "==": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal,
}  # fmt: skip
_SYNTAX = re.compile(r"\s*([^\s=!<>]+)\s*(==|!=|<=|>=|<|>|\bin\b)\s*(.+?)\s*")


@dataclass(frozen=True)
class Filter:
    """Rows that are kept: where the column compares so with the value, a list for `in`; never where it is null."""

    column: str
    operator: str
    value: Any

    @classmethod
    def parse(cls, text: str) -> Filter:
        """The filter in a text; InputError when it is none."""
        match = _SYNTAX.fullmatch(text)
        value = _value(match[3]) if match else None
        if not match or (match[2] == "in") != isinstance(value, list) or isinstance(value, dict):
            raise InputError(
                f"--dataset_filter is {text!r}; expected COLUMN OPERATOR VALUE",
                "operators are ==, !=, <, <=, >, >= and in; for example 'language_score >= 0.65', 'language == en', "
                "'language in [\"en\", \"de\"]', 'characters > 200'",
            )
        return cls(match[1], match[2], value)

    def __str__(self) -> str:
        """The same filter always written the same."""
        return f"{self.column} {self.operator} {json.dumps(self.value, ensure_ascii=False)}"

    def keeps(self, rows: pa.Table) -> NDArray[np.bool_]:
        """Which rows are kept: bool [rows]; InputError when the column cannot be compared with the value."""
        column = pc.utf8_length(rows.column(0)) if self.column == CHARACTERS else rows.column(self.column)
        try:
            if self.operator == "in":
                found = pc.is_in(column, value_set=pa.array(self.value))
            else:
                found = _COMPARE[self.operator](column, pa.scalar(self.value))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise InputError(
                f"--dataset_filter {self}: the column holds {column.type}, not to be compared with {self.value!r}",
                "compare it with a value of its own type",
            ) from error
        kept: NDArray[np.bool_] = pc.fill_null(found, False).to_numpy(zero_copy_only=False)
        return kept


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.strip("'\"")


def columns_of(filters: Sequence[Filter]) -> tuple[str, ...]:
    """Columns that are read besides the text."""
    return tuple(dict.fromkeys(f.column for f in filters if f.column != CHARACTERS))


def first_refusal(filters: Sequence[Filter], rows: pa.Table) -> NDArray[np.int64]:
    """For each row 1 + the number of the first filter that refuses it, 0 where none does: int64 [rows]."""
    refused = np.zeros(rows.num_rows, np.int64)
    for number, one in enumerate(filters, 1):
        refused[(refused == 0) & ~one.keeps(rows)] = number
    return refused
