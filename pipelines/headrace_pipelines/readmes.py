"""The README of each room: written by hand up to a mark, made from its component and its example after it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from headrace.errors import InputError
from headrace_pipelines.tables import component

FOLDER = Path("components/headrace")
README, EXAMPLE = "README.md", "example_pipelines.py"
BEGIN = "<!-- Made by `python -m headrace_pipelines.docs`: edit above this line, or below the end. -->"
END = "<!-- The end of what is made. -->"


def readme(room: str, text: str) -> str:
    """A room's README with what lies between its marks made anew; InputError without one pair of marks, in order."""
    above, begin, rest = text.partition(BEGIN)
    _, end, below = rest.partition(END)
    if not begin or not end or BEGIN in below or END in above + below:
        raise InputError(
            f"{FOLDER / room / README} has no generated part, or more than one",
            f"put these two lines where it belongs:\n  {BEGIN}\n  {END}",
        )
    example = (FOLDER / room / EXAMPLE).read_text("utf-8")
    return f"{above}{BEGIN}\n\n{made(room, example)}\n{END}{below}"


def made(room: str, example: str) -> str:
    """Inputs and outputs of a room's components, its own first, then the example."""
    sections = [component(spec) for spec in specifications(room)]
    sections.append(
        f"## Example\n\n[`{EXAMPLE}`]({EXAMPLE}), which a test runs:\n\n```python\n{example.rstrip()}\n```\n"
    )
    return "\n".join(sections)


def specifications(room: str) -> list[Any]:
    """What kfp knows of each component in a room's component module: the room's own first, then in the file's order."""
    from kfp.dsl.base_component import BaseComponent

    module = importlib.import_module(f"headrace.{room}.component")
    specs = [each.component_spec for each in vars(module).values() if isinstance(each, BaseComponent)]
    return sorted(specs, key=lambda spec: bool(spec.name != room))
