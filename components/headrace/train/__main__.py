"""`python -m headrace.train`: train on the stream."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.entry import leave, run_command
from headrace.options import Options
from headrace.train.launch import launch, processes_to_start
from headrace.train.preemption import end_with_parent

EXAMPLE = """  headrace train --dataset_name HuggingFaceFW/fineweb --dataset_config_name CC-MAIN-2024-10 \\
      --model_name_or_path openai-community/gpt2 --max_steps 2500 --per_device_train_batch_size 8 \\
      --save_steps 1000 --output_dir out
the same command again goes on from the newest checkpoint; it starts one process a GPU, or --nproc_per_node 8"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step; its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    return run_command(
        "train",
        words,
        description="Train a causal language model on a stream of documents.",
        example=EXAMPLE,
        groups=("dataset", "model", "train", "tracking", "training"),
        work=lambda options, output_dir: _work(options, output_dir, words),
    )


def _work(options: Options, output_dir: Path, argv: Sequence[str]) -> Mapping[str, Any]:
    # Torch comes with these: not for --help, nor for a mistake in the flags.
    processes = processes_to_start(options)
    if processes > 1:
        from headrace.train.check import check

        check(options)
        return launch(argv, processes, output_dir, options.train.grace_s)
    from headrace.train.step import run

    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()
    return run(options, output_dir)


if __name__ == "__main__":
    leave(main())
