"""`python -m headrace_pipelines.docs` writes what is made of the code: docs/flags.md and a part of each room's README.

`--check` fails when one of them is stale, or a room's metadata is wrong.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headrace.entry import explain
from headrace.errors import EXIT_DONE, EXIT_FAILURE, HeadraceError
from headrace.images import ROOMS
from headrace.options.parse import Flag, known_flags
from headrace_pipelines.metadata import problems
from headrace_pipelines.readmes import FOLDER, README, readme
from headrace_pipelines.tables import component, inputs, table

PATH = Path("docs/flags.md")
TITLES = {
    "dataset": "Dataset",
    "model": "Model",
    "validate": "Validation",
    "train": "Training: Headrace's own",
    "evaluate": "Evaluation and publishing",
    "tracking": "Tracking",
    "plan": "Planning",
    "training": "Training: `TrainingArguments` of transformers",
}


def flags_page() -> str:
    """docs/flags.md."""
    from headrace_pipelines.pipeline import make_pipeline
    from headrace_pipelines.tasks import record, refuse

    parts = [
        "# Flags\n",
        "Made from the code by `python -m headrace_pipelines.docs`; do not edit. Every step takes every flag, from the "
        "command line or from one YAML or JSON file (`--config`), and uses those it needs.\n",
    ]
    for group, title in TITLES.items():
        rows = [f for f in known_flags().values() if f.group == group]
        parts.append(f"## {title}\n\n{table(('flag', 'type', 'default', 'what it is'), map(_row, rows))}")
    parts.append(f"## Parameters of the pipeline\n\n{inputs(make_pipeline().component_spec)}")
    parts += [component(task.component_spec) for task in (refuse, record)]
    rooms = ", ".join(f"[{room}](../{FOLDER / room / README})" for room in ROOMS)
    parts.append(f"The inputs and outputs of its other components are in their READMEs: {rooms}.\n")
    return "\n".join(parts)


def _row(flag: Flag) -> tuple[str, str, str, str]:
    default = "" if flag.default in (None, "", [], {}) else f"`{_plain(flag.default)}`"
    kind = " \\| ".join(f"`{c}`" for c in flag.choices) if 0 < len(flag.choices) <= 5 else flag.kind
    return f"`--{flag.name}`", kind, default, flag.help


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def pages() -> dict[Path, str]:
    """Every file that is made of the code, whole or in part, as it should be."""
    rooms = {FOLDER / room / README: room for room in ROOMS}
    held = {path: path.read_text("utf-8") if path.is_file() else "" for path in rooms}
    return {PATH: flags_page(), **{path: readme(room, held[path]) for path, room in rooms.items()}}


def check() -> list[str]:
    """What is stale or wrong in this checkout, a line each."""
    stale = [p for p, page in pages().items() if not p.is_file() or p.read_text("utf-8") != page]
    said = [f"{path} is stale; run `python -m headrace_pipelines.docs`" for path in stale]
    return said + problems(datetime.now(UTC))


def write() -> list[Path]:
    """Make the files anew; which ones changed."""
    changed = [(p, page) for p, page in pages().items() if not p.is_file() or p.read_text("utf-8") != page]
    for path, page in changed:
        path.parent.mkdir(exist_ok=True)
        path.write_text(page, "utf-8")
    return [path for path, _ in changed]


def main() -> int:
    """Write the files, or with --check only look; 1 when one is stale or wrong."""
    parser = argparse.ArgumentParser(prog="python -m headrace_pipelines.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="look, write nothing")
    args = parser.parse_args()
    try:
        if not args.check:
            print(*write(), sep="\n")
            return EXIT_DONE
        said = check()
    except HeadraceError as error:
        return explain(error)
    for line in said:
        print(f"headrace: error: {line}", file=sys.stderr)
    return EXIT_FAILURE if said else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
