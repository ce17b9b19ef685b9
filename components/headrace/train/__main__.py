"""`python -m headrace.train`: train on the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.entry import leave, run_command
from headrace.options import Options

EXAMPLE = """  headrace train --dataset_name HuggingFaceFW/fineweb --dataset_config_name CC-MAIN-2024-10 \\
      --model_name_or_path openai-community/gpt2 --max_steps 2500 --per_device_train_batch_size 8 \\
      --save_steps 1000 --output_dir out
the same command again goes on from the newest checkpoint; on 8 GPUs:
  torchrun --nproc_per_node 8 -m headrace.train …"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step; its exit code."""
    return run_command(
        "train",
        argv,
        description="Train a causal language model on a stream of documents.",
        example=EXAMPLE,
        groups=("dataset", "model", "train", "training"),
        work=_work,
    )


def _work(options: Options, output_dir: Path) -> Mapping[str, Any]:
    from headrace.train.step import run  # torch comes with it: not for --help, nor for a mistake in the flags

    return run(options, output_dir)


if __name__ == "__main__":
    leave(main())
