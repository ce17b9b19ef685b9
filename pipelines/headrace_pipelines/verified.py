"""`python -m headrace_pipelines.verified`: how long ago each room was verified; 1 when one is due again.

`make verified` runs the rooms' examples and then, with `--today`, dates their metadata.yaml anew. Nothing else fails
for the age.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from headrace.entry import explain
from headrace.errors import EXIT_DONE, EXIT_FAILURE, HeadraceError, InputError
from headrace.images import ROOMS
from headrace_pipelines.metadata import METADATA, load
from headrace_pipelines.readmes import FOLDER

DUE_DAYS = 270
"""kubeflow/pipelines-components asks its owners for a new verification then; a year unverified, a component may go."""
FIELD = re.compile(r"(?m)^lastVerified: .*$")


def age_days(path: Path, now: datetime) -> int:
    """Whole days since a metadata.yaml was last verified; InputError when it does not say so."""
    found = load(path)
    verified = found.get("lastVerified") if isinstance(found, dict) else None
    if not isinstance(verified, datetime) or verified.tzinfo is None:
        raise InputError(f"{path} has no time in lastVerified", "run `python -m headrace_pipelines.docs --check`")
    return (now - verified).days


def dated(text: str, now: datetime) -> str:
    """A metadata.yaml that was verified on the day that `now` is in; the rest of it as it was."""
    return FIELD.sub(f"lastVerified: {now:%Y-%m-%d}T00:00:00Z", text)


def main() -> int:
    """Tell the ages, or date every room today."""
    parser = argparse.ArgumentParser(prog="python -m headrace_pipelines.verified", description=__doc__)
    parser.add_argument("--today", action="store_true", help="date every room today; `make verified` runs it")
    args = parser.parse_args()
    now = datetime.now(UTC)
    paths = [FOLDER / room / METADATA for room in ROOMS]
    try:
        if args.today:
            for path in paths:
                path.write_text(dated(path.read_text("utf-8"), now), "utf-8")
        ages = {path: age_days(path, now) for path in paths}
    except HeadraceError as error:
        return explain(error)
    for path, days in ages.items():
        due = f"; due again since {days - DUE_DAYS} days: run `make verified`" if days >= DUE_DAYS else ""
        print(f"{path}: verified {days} days ago{due}")
    return EXIT_FAILURE if max(ages.values()) >= DUE_DAYS else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
