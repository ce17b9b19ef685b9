"""`python -m headrace.tracking FOLDER`: record what a step left in its `tracking` folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from headrace.errors import HeadraceError
from headrace.tracking.modes import OFFLINE, ONLINE, mode
from headrace.tracking.recorder import record


def main(argv: Sequence[str] | None = None) -> int:
    """Record a journal; 0 when all of it is where it belongs."""
    parser = argparse.ArgumentParser(prog="python -m headrace.tracking", description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="the `tracking` folder in a step's output")
    parser.add_argument("--mode", choices=(ONLINE, OFFLINE), help="default: online where WANDB_API_KEY is set")
    parser.add_argument("--follow", action="store_true", help="until the journal or standard input ends")
    own = parser.parse_args(argv)
    try:
        return record(own.folder, online=(own.mode or mode()) == ONLINE, following=own.follow)
    except HeadraceError as error:
        print(f"headrace: error: {error.message}\n  {error.remedy}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
