"""`headrace plan`: what a training will take, before it runs; with --score, how wrong that was."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.artifacts.files import write_bytes, write_json
from headrace.entry import log_to_stderr, ready
from headrace.errors import EXIT_DONE, InputError, Refused
from headrace.options import Options, parse_arguments

PLAN, PLAN_MD = "plan.json", "plan.md"
DESCRIPTION = """Work out time, memory, checkpoints and requests of a training, from what `headrace validate` found.

  --score OUTPUT_DIR       compare a training, finished or not, with the plan made before it
  --plan FILE              with --score: that plan (default: plan.json in OUTPUT_DIR, beside it, or in ../validate)
  --json                   print plan.json (with --score: the comparison) instead of tables

Give the flags that `headrace train` will get. plan.json and plan.md go to --output_dir, or beside the report.
Exit code 3 when it does not fit into memory, not even by the lower estimate."""
EXAMPLE = """\
  headrace plan --report checked/report.json --model_name_or_path openai-community/gpt2 \\
      --hardware h100 --gpus 8 --global_batch_size 512 --max_steps 20000 --price_per_gpu_hour 2.50
  headrace plan --score out"""
GROUPS = ("plan", "dataset", "model", "train", "training")


def main(argv: Sequence[str]) -> int:
    """Print and write the plan, or the comparison; 0. InputError, or Refused for a training that does not fit."""
    own, options = parse(argv)
    log_to_stderr(options)
    if own.score:
        from headrace.forecast import score

        found = score.compare(Path(own.score), Path(own.plan) if own.plan else None)
        print(_json(found) if own.json else score.terminal(found))
        return EXIT_DONE
    if own.plan:
        raise InputError("--plan names the plan to compare with; it needs --score", "add --score OUTPUT_DIR")
    from headrace.forecast import make, show

    plan = make.make(options)
    paths = _write(options, plan)
    print(_json(plan) if own.json else show.terminal(plan, paths))
    sys.stdout.flush()
    if plan["memory"]["fits"] == "no":
        raise _refused(plan)
    return EXIT_DONE


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, Options]:
    """What to do, and the options to plan with."""
    parser = argparse.ArgumentParser(prog="headrace plan", add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--score")
    parser.add_argument("--plan")
    parser.add_argument("--json", action="store_true")
    try:
        own, rest = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise InputError(str(error), "`headrace plan --help` shows the flags") from error
    return own, parse_arguments(rest, prog="headrace plan", description=DESCRIPTION, example=EXAMPLE, groups=GROUPS)


def _write(options: Options, plan: dict[str, Any]) -> list[str]:
    from headrace.forecast.show import markdown

    named = options.training.get("output_dir")
    folder = Path(str(named)) if named else Path(plan["report"]["path"]).parent
    if (folder / "commit.json").is_file():
        raise InputError(
            f"{folder} holds a finished training; a plan of it would no longer be made before it",
            "name another --output_dir, or compare with `headrace plan --score`",
        )
    ready(folder)
    write_json(folder / PLAN, plan)
    write_bytes(folder / PLAN_MD, markdown(plan).encode("utf-8", "replace"))
    return [str(folder / PLAN), str(folder / PLAN_MD)]


def _refused(plan: dict[str, Any]) -> Refused:
    run, memory = plan["run"], plan["memory"]
    best = run["recommended"]
    if best is None:
        remedy = (
            "no micro-batch fits: try --gradient_checkpointing, a shorter --dataset_block_size, an 8-bit --optim, or "
            "hardware with more memory"
        )
    else:
        remedy = (
            f"--per_device_train_batch_size {best['micro_batch']} with --global_batch_size {best['global_batch']} fits"
        )
    return Refused(
        f"a micro-batch of {run['micro_batch']} needs at least {memory['peak'][0] / 1e9:.1f} GB a rank; "
        f"{plan['hardware']['says']} has {memory['available'] / 1e9:.1f} GB",
        remedy,
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
