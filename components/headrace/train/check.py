"""What can be refused from the flags and the model's small files, in a second, before torch is imported."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from headrace.artifacts.storage import of_job
from headrace.errors import InputError
from headrace.inputs import block_size, open_encoder, open_limits, required, required_steps, small_files
from headrace.options import Options, training_value
from headrace.scoring.models import is_hub_name, require_weights
from headrace.stream.tokenizer import Encoder

POSITIVE = ("per_device_train_batch_size", "gradient_accumulation_steps", "logging_steps", "save_steps")
REFUSED = {
    "auto_find_batch_size": "it would start over with other samples a step; set --per_device_train_batch_size",
    "do_predict": "there is nothing to predict; use `headrace evaluate`",
}


@dataclass(frozen=True)
class Checked:
    """What the flags ask for, and what was read to check them."""

    train: bool
    evaluate: bool
    encoder: Encoder
    block: int


def check(options: Options) -> Checked:
    """InputError for whatever cannot work; cheap, so that it comes before anything slow."""
    dataset = options.dataset
    if not (dataset.manifest or dataset.tokenized_dataset_load_dir or dataset.dataset_mixture):
        required(options, "dataset_name")
    if dataset.dataset_mixture:
        required_steps(options)
    required(options, "model_name_or_path")
    for name, remedy in REFUSED.items():
        if options.training.get(name):
            raise InputError(f"--{name} is not offered", remedy)
    of_job(options.train.store or "", "")
    wanted = _wanted(options)
    _check_numbers(options)
    _check_compiler(options)
    limits = open_limits(options)
    block = block_size(options, limits)
    encoder = open_encoder(options)
    _check_weights(options)
    return Checked(*wanted, encoder, block)


def _wanted(options: Options) -> tuple[bool, bool]:
    """Whether to train and whether to evaluate."""
    train = options.training.get("do_train") is not False
    evaluate = bool(options.training.get("do_eval")) or training_value(options, "eval_strategy") != "no"
    if "max_eval_samples" in options.given and not evaluate:
        raise InputError(
            f"--max_eval_samples is {options.dataset.max_eval_samples}, but nothing is evaluated",
            "add --do_eval (or --eval_strategy steps), or leave it out",
        )
    if not train and not evaluate and not options.dataset.tokenized_dataset_save_dir:
        raise InputError(
            "--do_train is false and there is nothing else to do",
            "add --do_eval to evaluate, or --tokenized_dataset_save_dir to prepare the data",
        )
    return train, evaluate


def _check_numbers(options: Options) -> None:
    values = {**options.training, "global_batch_size": options.train.global_batch_size}
    for name in (*POSITIVE, "global_batch_size"):
        value = values.get(name)
        if value is not None and not value > 0:
            raise InputError(f"--{name} is {value}; expected more than 0")
    steps, epochs = training_value(options, "max_steps"), training_value(options, "num_train_epochs")
    if steps == 0 or steps < -1:
        raise InputError(f"--max_steps is {steps}; expected 1 or more (-1: by --num_train_epochs)")
    if steps == -1 and not epochs > 0:
        raise InputError(f"--num_train_epochs is {epochs}; expected more than 0")
    for name, least in (("commit_every_s", options.train.commit_every_s), ("grace_s", options.train.grace_s)):
        if least < 0:
            raise InputError(f"--{name} is {least:g}; expected 0 or more seconds")
    if options.train.torch_threads is not None and options.train.torch_threads < 1:
        raise InputError(f"--torch_threads is {options.train.torch_threads}; expected 1 or more")


def _check_compiler(options: Options) -> None:
    """torch.compile's usual back end calls a C compiler, which the images do not hold."""
    inductor = str(options.training.get("torch_compile_backend") or "inductor") == "inductor"
    found = os.environ.get("CC") or any(shutil.which(name) for name in ("gcc", "cc", "clang"))
    if options.training.get("torch_compile") and inductor and not found:
        raise InputError(
            "--torch_compile needs a C compiler, and there is none here",
            "leave it out, or use an image of your own: FROM the train image, with gcc and Python's headers",
        )


def _check_weights(options: Options) -> None:
    location = str(options.model.model_name_or_path)
    if options.model.init_from_config or "://" in location or is_hub_name(location):
        return
    folder = small_files(location)
    if "://" not in folder:
        require_weights(Path(folder), location)
