"""Every `TrainingArguments` name, type and default, without importing transformers.

The table is generated from the class (`python -m headrace.train.flags`) and a test fails when it is stale.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from headrace.options.groups import Options

# What became of the names that recipes still carry; found in transformers' own migration notes and signatures.
REMOVED = {
    "evaluation_strategy": "eval_strategy",
    "save_safetensors": "nothing: safetensors are always written",
    "overwrite_output_dir": "nothing: a run continues by default, --fresh starts over",
    "no_cuda": "use_cpu",
    "logging_dir": "the TENSORBOARD_LOGGING_DIR environment variable",
    "warmup_ratio": "warmup_steps (a fraction below 1 is a ratio)",
    "split_batches": "accelerator_config",
    "dispatch_batches": "accelerator_config",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "fp16_backend": "half_precision_backend, or plain --fp16",
    "half_precision_backend": "nothing: --fp16 or --bf16 is enough",
    "fp16_opt_level": "nothing: --fp16 is enough",
    "push_to_hub_model_id": "hub_model_id",
    "push_to_hub_token": "hub_token",
    "push_to_hub_organization": "hub_model_id",
    "use_mps_device": "nothing: it is used where it is found",
    "tpu_num_cores": "nothing: it is found",
    "past_index": "nothing: it had no use for these models",
    "ray_scope": "nothing: hyper-parameter search is not offered",
    "include_inputs_for_metrics": "include_for_metrics",
    "include_tokens_per_second": "include_num_input_tokens_seen",
    "jit_mode_eval": "torch_compile",
    "use_ipex": "nothing: it is part of torch now",
    "adafactor": "optim adafactor",
    "tokenizer": "tokenizer",
}


@dataclass(frozen=True)
class TrainingFlag:
    """One `TrainingArguments` field as a flag. kind: bool, int, float, str, list or dict."""

    name: str
    kind: str
    default: Any
    choices: tuple[str, ...]
    help: str


@cache
def training_flags() -> dict[str, TrainingFlag]:
    """Flags by name, in the order of the class."""
    table = json.loads(files("headrace.options").joinpath("training_arguments.json").read_text("utf-8"))
    return {row["name"]: TrainingFlag(**{**row, "choices": tuple(row["choices"])}) for row in table["flags"]}


def training_value(options: Options, name: str) -> Any:
    """A `TrainingArguments` value: as given, or its default."""
    value = options.training.get(name)
    return training_flags()[name].default if value is None else value
