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
from headrace.stream.columns import Compared, kind_of

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
        if not match or (match[2] == "in") != isinstance(value, list) or kind_of(value) is None:
            raise InputError(
                f"--dataset_filter is {text!r}; expected COLUMN OPERATOR VALUE",
                "operators are ==, !=, <, <=, >, >= and in; for example 'language_score >= 0.65', 'language == en', "
                "'language in [\"en\", \"de\"]', 'characters > 200'",
            )
        try:
            pa.array(value if isinstance(value, list) else [value])
        except OverflowError as error:
            raise InputError(
                f"--dataset_filter is {text!r}; whole numbers have 64 bits at most",
                "compare with a smaller number, or write it with a decimal point",
            ) from error
        return cls(match[1], match[2], value)

    def __str__(self) -> str:
        """The same filter always written the same."""
        return f"{self.column} {self.operator} {json.dumps(self.value, ensure_ascii=False)}"

    def keeps(self, rows: pa.Table) -> NDArray[np.bool_]:
        """Which rows are kept: bool [rows]; InputError when the column cannot be compared with the value."""
        column = pc.utf8_length(rows.column(0)) if self.column == CHARACTERS else _behind(rows, self.column)
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


def _behind(rows: pa.Table, name: str) -> pa.ChunkedArray:
    """A column by its name: the last, as the text is the first and called `text` whatever it is called in the files."""
    return rows.column(rows.schema.get_all_field_indices(name)[-1])


def columns_of(filters: Sequence[Filter]) -> tuple[str, ...]:
    """Columns that are read besides the text; InputError when one is compared with values of different types."""
    found = []
    for name in dict.fromkeys(f.column for f in filters if f.column != CHARACTERS):
        comparing = [f for f in filters if f.column == name]
        kind = kind_of([v for f in comparing for v in (f.value if isinstance(f.value, list) else [f.value])])
        by = " and ".join(map(repr, map(str, comparing)))
        if kind is None:
            raise InputError(
                f"--dataset_filter {by} compare one column with values of different types",
                "compare a column with numbers, with text, or with true and false",
            )
        found.append(Compared(name, kind, by))
    return tuple(found)


def first_refusal(filters: Sequence[Filter], rows: pa.Table) -> NDArray[np.int64]:
    """For each row 1 + the number of the first filter that refuses it, 0 where none does: int64 [rows]."""
    refused = np.zeros(rows.num_rows, np.int64)
    for number, one in enumerate(filters, 1):
        refused[(refused == 0) & ~one.keeps(rows)] = number
    return refused
