"""`python -m headrace.evaluate`: score and publish a model."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.entry import run_command
from headrace.options import Options

EXAMPLE = """  headrace evaluate --model_name_or_path out --heldout validated/heldout.parquet --output_dir scored
  headrace evaluate --model_name_or_path openai-community/gpt2 --dataset_name HuggingFaceFW/fineweb \\
      --dataset_config_name CC-MAIN-2024-10 --metric accuracy --publish gs://bucket/models --output_dir scored
  torchrun --nproc_per_node 8 -m headrace.evaluate … shares the documents among 8 GPUs"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step; its exit code."""
    return run_command(
        "evaluate",
        argv,
        description="Score a model on held-out documents, and publish it with card, metrics and lineage.",
        example=EXAMPLE,
        groups=("dataset", "model", "evaluate", "tracking"),
        work=_work,
    )


def _work(options: Options, output_dir: Path) -> Mapping[str, Any]:
    from headrace.evaluate.step import run

    return run(options, output_dir)


if __name__ == "__main__":
    sys.exit(main())
