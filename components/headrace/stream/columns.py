"""Columns that files hold in different types, read in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from headrace.stream.unfit import Unfit

EXACT = 1 << 53
"""From here on not every whole number is a double."""


class Compared(str):
    """The name of a column that a filter compares. kind: the type in which it is read, whatever a file holds it in."""

    __slots__ = ("by", "kind")
    kind: pa.DataType
    by: str

    def __new__(cls, name: str, kind: pa.DataType, by: str) -> Compared:
        """by: the filter, as it is told to who wrote it."""
        found = super().__new__(cls, name)
        found.kind, found.by = kind, by
        return found

    def takes(self, value: Any) -> bool:
        """Whether a value of JSON can be compared so."""
        kind = None if isinstance(value, list) else kind_of(value)
        inexact = pa.types.is_integer(self.kind) and isinstance(value, float)
        return kind is not None and comparable(self, kind) and not inexact

    def wrong(self, what: str, place: str = "") -> Unfit:
        """The error where the column holds something that cannot be compared so."""
        where = f"{place}: {str(self)!r}" if place else f"the column {str(self)!r}"
        return Unfit(
            "wrong-type",
            f"{where} holds {what}, not to be compared by --dataset_filter {self.by}",
            remedy="compare it with a value of its own type (text in quotes), or leave out the file",
        )


def kind_of(value: Any) -> pa.DataType | None:
    """The type in which a column is read that is compared with a value, or with those of a list; None for none."""
    values = [v for v in value if v is not None] if isinstance(value, list) else [value]
    kinds = {type(v) for v in values}
    if kinds == {str}:
        return pa.large_string()
    if kinds == {bool}:
        return pa.bool_()
    if not kinds or not kinds <= {int, float}:
        return None
    # As doubles, numbers compare exactly with any below 2^53.
    return pa.int64() if any(isinstance(v, int) and abs(v) >= EXACT for v in values) else pa.float64()


def asked(columns: Sequence[str]) -> list[str]:
    """What is read of files, in words that name what is kept of it: names, and types where they matter."""
    return [f"{c}: {c.kind}" if isinstance(c, Compared) else c for c in columns]


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is text, also where it is dictionary-encoded."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def comparable(column: Compared, held: pa.DataType) -> bool:
    """Whether a column held in a type can be read in that in which it is compared."""
    value = held.value_type if pa.types.is_dictionary(held) else held
    if pa.types.is_null(value):
        return True
    if pa.types.is_boolean(column.kind):
        return bool(pa.types.is_boolean(value))
    if is_text(column.kind):
        return is_text(value) or bool(pa.types.is_binary(value) or pa.types.is_large_binary(value))
    return bool(pa.types.is_integer(value) or pa.types.is_floating(value) or pa.types.is_decimal(value))


def unequal(columns: Sequence[str], kinds: Sequence[pa.DataType]) -> Unfit | None:
    """The error for the first column that is held in a type in which it cannot be compared."""
    held = zip(columns, kinds, strict=True)
    return next((c.wrong(str(k)) for c, k in held if isinstance(c, Compared) and not comparable(c, k)), None)


def chosen(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The wanted columns of a table by their names, some of them twice; those that are compared in their one type."""
    found = []
    for column in columns:
        values = table.column(str(column))
        if isinstance(column, Compared):
            if values.null_count == len(values):
                values = pa.chunked_array([pa.nulls(len(values), column.kind)])
            elif not comparable(column, values.type):
                raise column.wrong(str(values.type))
            try:
                values = values.cast(column.kind, safe=not pa.types.is_floating(column.kind))
            except pa.ArrowInvalid as error:
                raise column.wrong(f"{values.type}, of which some is no {column.kind}") from error
        found.append(values)
    return pa.table(found, names=list(map(str, columns)))


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of the same columns in one; types that files hold differently become one that fits both, else Unfit."""
    first = tables[0].schema
    if all(t.schema.equals(first) for t in tables):
        return pa.concat_tables(tables)
    fields = []
    for place, name in enumerate(first.names):
        schemas = {str(t.schema.types[place]): pa.schema([(name, t.schema.types[place])]) for t in tables}
        try:
            fields += pa.unify_schemas(list(schemas.values()), promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            kinds = " and ".join(schemas)
            raise Unfit("wrong-type", f"the column {name!r} holds {kinds}, expected one type") from error
    return pa.concat_tables([t.cast(pa.schema(fields), safe=False) for t in tables])
