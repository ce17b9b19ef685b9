"""`python -m headrace.validate`: go or no-go for a dataset, before a GPU is paid for."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.entry import run_command
from headrace.options import Options

EXAMPLE = """\
  headrace validate --dataset_name HuggingFaceFW/fineweb --dataset_config_name CC-MAIN-2024-10 \\
      --model_name_or_path openai-community/gpt2 --world_size 8 --output_dir checked"""


def work(options: Options, output_dir: Path) -> Mapping[str, Any]:
    """The step itself, imported when it runs: --help needs none of it."""
    from headrace.validate.step import run

    return run(options, output_dir)


def main(argv: Sequence[str] | None = None) -> int:
    """Validate a dataset from the command line; the exit code."""
    return run_command(
        "validate",
        argv,
        description="Look at a dataset as a stream and say go, warn or no-go, with a manifest for training.",
        example=EXAMPLE,
        groups=("dataset", "model", "validate", "training"),
        work=work,
    )


if __name__ == "__main__":
    sys.exit(main())
