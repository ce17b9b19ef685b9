"""`python -m headrace_pipelines.docs` writes docs/flags.md from the code; `--check` fails when it is stale."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headrace.options.parse import Flag, known_flags

PATH = Path("docs/flags.md")
TITLES = {
    "dataset": "Dataset",
    "model": "Model",
    "validate": "Validation",
    "train": "Training: Headrace's own",
    "evaluate": "Evaluation and publishing",
    "training": "Training: `TrainingArguments` of transformers",
}


def flags_page() -> str:
    """docs/flags.md."""
    parts = [
        "# Flags and components\n",
        "Made from the code by `python -m headrace_pipelines.docs`; do not edit. Every step takes every flag, from the "
        "command line or from one YAML or JSON file (`--config`), and uses those it needs.\n",
    ]
    for group, title in TITLES.items():
        rows = [f for f in known_flags().values() if f.group == group]
        parts.append(f"## {title}\n\n{_table(('flag', 'type', 'default', 'what it is'), map(_row, rows))}")
    parts.append("## Components of the pipeline\n")
    parts += [_component(spec) for spec in _specifications()]
    return "\n".join(parts)


def _row(flag: Flag) -> tuple[str, str, str, str]:
    default = "" if flag.default in (None, "", [], {}) else f"`{_plain(flag.default)}`"
    kind = " \\| ".join(f"`{c}`" for c in flag.choices) if 0 < len(flag.choices) <= 5 else flag.kind
    return f"`--{flag.name}`", kind, default, flag.help


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _component(spec: Any) -> str:
    rows = [
        *((f"`{n}`", "input", _kind(i), _default(i), i.description or "") for n, i in (spec.inputs or {}).items()),
        *((f"`{n}`", "output", _kind(o), "", o.description or "") for n, o in (spec.outputs or {}).items()),
    ]
    says = (spec.description or "").strip().splitlines()[0]
    return f"### {spec.name}\n\n{says}\n\n{_table(('name', '', 'type', 'default', 'what it is'), rows)}"


def _kind(port: Any) -> str:
    return str(port.type).removeprefix("system.").partition("@")[0]


def _default(port: Any) -> str:
    return "" if not getattr(port, "optional", False) else f"`{port.default!r}`"


def _specifications() -> list[Any]:
    from headrace.evaluate.component import evaluate
    from headrace.train.component import train
    from headrace.validate.component import pin, validate
    from headrace_pipelines.pipeline import make_pipeline
    from headrace_pipelines.tasks import record, refuse

    return [c.component_spec for c in (pin, validate, train, evaluate, refuse, record, make_pipeline())]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(" ".join(cell.split()) for cell in line) + " |" for line in lines) + "\n"


def main() -> int:
    """Write the page, or with --check compare it; 1 when it is stale."""
    parser = argparse.ArgumentParser(prog="python -m headrace_pipelines.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    args = parser.parse_args()
    page = flags_page()
    if args.check:
        if not PATH.is_file() or PATH.read_text("utf-8") != page:
            print(f"headrace: error: {PATH} is stale\n  run `python -m headrace_pipelines.docs`", file=sys.stderr)
            return 1
        return 0
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(page, "utf-8")
    print(PATH)
    return 0


if __name__ == "__main__":
    sys.exit(main())
