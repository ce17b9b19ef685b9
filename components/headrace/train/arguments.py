"""`TrainingArguments` from the options, and the machine as they find it."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import HeadraceError, InputError
from headrace.options import Options, training_value
from headrace.stream.batches import RankStream
from headrace.stream.order import exact_world_sizes
from headrace.train.data import Data
from headrace.train.ranks import local_ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments

log = logging.getLogger(__name__)

EFFICIENT = 0.9
"""Below this share of real rows a step, the world sizes that need no filler are named."""


def set_threads(options: Options) -> int:
    """Torch's CPU threads: --torch_threads, OMP_NUM_THREADS, or the cores shared by the ranks here; sets them."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    threads = options.train.torch_threads or (int(named) if named.isdigit() and int(named) > 0 else 0)
    if not threads:
        threads = max(1, len(os.sched_getaffinity(0)) // local_ranks())
    os.environ["OMP_NUM_THREADS"] = str(threads)  # accelerate would guess where it finds none
    import torch

    torch.set_num_threads(threads)
    return threads


def _by_hardware(options: Options) -> dict[str, Any]:
    """What is chosen where nothing was said: bf16 on accelerators that have it."""
    import torch

    said = {"bf16", "fp16", "torch_dtype", "use_cpu", "deepspeed"} & options.given
    if said or not torch.cuda.is_available() or not torch.cuda.is_bf16_supported(including_emulation=False):
        return {}
    log.info("bf16 is set, as %s has it; --bf16 false trains in float32", torch.cuda.get_device_name())
    return {"bf16": True}


def how_it_runs(args: TrainingArguments, model: PreTrainedModel) -> str:
    """One line of what decides the speed."""
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else str(model.dtype).removeprefix("torch.")
    optimizer = getattr(args.optim, "value", args.optim)
    compiled, recomputed = ("on" if flag else "off" for flag in (args.torch_compile, args.gradient_checkpointing))
    return (
        f"precision {precision}, optimizer {optimizer}, attention {model.config._attn_implementation}, "
        f"torch.compile {compiled}, gradient checkpointing {recomputed}"
    )


def training_arguments(options: Options, output_dir: Path) -> TrainingArguments:
    """The arguments by their own names; joins the process group. InputError when transformers refuses them."""
    import torch
    from transformers import TrainingArguments

    given: dict[str, Any] = {
        "report_to": "none",
        # Losses are looked at once a step (health.py); this would make the device wait in every micro-batch.
        "logging_nan_inf_filter": False,
        **_by_hardware(options),
        **{name: value for name, value in options.training.items() if value is not None},
        "output_dir": str(output_dir),
        # The stream is put in its place by the data state, not by reading all that was read before.
        "ignore_data_skip": True,
        "remove_unused_columns": False,
        # Checkpoints are pruned after a commit, never before.
        "save_total_limit": None,
    }
    given.pop("resume_from_checkpoint", None)
    if isinstance(given.get("debug"), list):
        given["debug"] = " ".join(given["debug"])
    if given.pop("use_cache", False):
        log.warning("--use_cache is set to false: with a cache, documents in a block would attend to each other")
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1 and not torch.accelerator.is_available():
        # Unless told so, accelerate would make each process a training of its own, all in one folder.
        given["use_cpu"] = True
    try:
        args = TrainingArguments(**given)
    except (ValueError, TypeError, ImportError, NotImplementedError, FileNotFoundError) as error:
        raise InputError(
            f"transformers refuses these training arguments: {error}", "`--help_all` lists them"
        ) from error
    if args.world_size != launched:
        raise HeadraceError(
            f"the launcher started {launched} processes; accelerate joined {args.world_size}",
            "start them with torchrun or accelerate launch, one a device",
        )
    if args.n_gpu > 1:
        log.warning(
            "%d GPUs are visible to one process, which uses the first; without --nproc_per_node each gets a process",
            args.n_gpu,
        )
        args._n_gpu = 1  # as Trainer itself does: no DataParallel
    return args


def aim(args: TrainingArguments, options: Options, data: Data, stream: RankStream, world_size: int) -> None:
    """Give Trainer the steps and the accumulation that the plan has, and say what that overrides."""
    plan = data.plan
    flag = args.gradient_accumulation_steps
    overrides = "gradient_accumulation_steps" in options.given and flag != stream.accumulation
    log.log(
        logging.WARNING if overrides else logging.INFO,
        "accumulation is %d%s: %d samples a step over %d rank(s) of %d",
        stream.accumulation, f", not the flag's {flag}" if overrides else "",
        plan.global_batch, world_size, stream.batch,
    )  # fmt: skip
    if stream.efficiency < EFFICIENT:
        batch, world_sizes = stream.batch, exact_world_sizes(plan.global_batch, plan.lanes)
        exact = [str(w) for w in world_sizes if plan.global_batch // w % batch == 0]
        log.warning(
            "only %.0f %% of a step's rows are trained, the others are filler; there is none with %s",
            100 * stream.efficiency,
            f"{', '.join(exact)} rank(s)" if exact else f"a --per_device_train_batch_size below {batch}",
        )
    args.gradient_accumulation_steps = stream.accumulation
    args.max_steps = data.horizon.steps
    if training_value(options, "max_steps") <= 0:
        # Epochs belong to lanes: "every epoch" is every so many steps.
        epoch = max(1, math.ceil(data.horizon.steps / training_value(options, "num_train_epochs")))
        for kind in ("eval", "save", "logging"):
            strategy = getattr(args, f"{kind}_strategy")
            if strategy == "epoch":
                setattr(args, f"{kind}_strategy", type(strategy)("steps"))
                setattr(args, f"{kind}_steps", epoch)
