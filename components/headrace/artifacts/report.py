"""One self-contained HTML page per result: no network, no scripts, light and dark, legible at any width.

`report_run` and `report_validation` turn the steps' JSON into what the templates show; `report_charts` draws.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.artifacts.files import write_bytes

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(
    path: Path,
    *,
    title: str,
    training: Mapping[str, Any] | None = None,
    validation: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    lineage: Mapping[str, Any] | None = None,
    previous: Mapping[str, Any] | None = None,
) -> None:
    """Write the page of a run from train's `headrace.json`, validate's `report.json`, `metrics.json`, `lineage.json`.

    previous: what it is compared with, as name, where, metrics and lineage. Whatever is missing, as a whole or in
    parts, is left out.
    """
    from headrace.artifacts.report_run import page

    parts = (training or {}, validation or {}, metrics or {}, lineage or {}, previous or {})
    _write(path, "run.html.j2", page(title, *parts))


def write_validation_report(path: Path, *, title: str, validation: Mapping[str, Any]) -> None:
    """Write the page of one validation from its `report.json`."""
    from headrace.artifacts.report_validation import page

    _write(path, "validation.html.j2", page(title, validation))


def _prose(text: str) -> Any:
    """Escaped text in which flags are set as code and not broken after their dashes."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(?<![\w-])(--\w+)", r'<code class="flag">\1</code>', str(escape(text))))


def _write(path: Path, template: str, context: Mapping[str, Any]) -> None:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,  # the page shows what documents, models and users wrote
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["prose"] = _prose
    html = environment.get_template(template).render(**context)
    write_bytes(path, html.encode("utf-8", "replace"))
