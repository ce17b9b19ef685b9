"""Markdown tables of what the code declares: the inputs and outputs of components and pipelines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

INPUTS = ("input", "type", "default", "what it is")
OUTPUTS = ("output", "type", "what it is")


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; line breaks within a cell become spaces."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(" ".join(cell.split()) for cell in line) + " |" for line in lines) + "\n"


def component(spec: Any) -> str:
    """A section on a component: what it says of itself, its inputs and its outputs."""
    says = (spec.description or "").strip().splitlines()[0]
    return "\n".join(
        part for part in (f"## The component `{spec.name}`\n\n{says}\n", inputs(spec), outputs(spec)) if part
    )


def inputs(spec: Any) -> str:
    """The inputs of a component specification of kfp, in their order."""
    rows = ((f"`{n}`", kind(i), _default(i), i.description or "") for n, i in (spec.inputs or {}).items())
    return table(INPUTS, rows)


def outputs(spec: Any) -> str:
    """Its outputs, in their order; of a component without any, the empty string."""
    rows = [(f"`{n}`", kind(o), o.description or "") for n, o in (spec.outputs or {}).items()]
    return table(OUTPUTS, rows) if rows else ""


def kind(port: Any) -> str:
    """The type of a port as people write it, such as `String` or `Dataset`."""
    return str(port.type).removeprefix("system.").partition("@")[0]


def _default(port: Any) -> str:
    return f"`{port.default!r}`" if getattr(port, "optional", False) else "required"
