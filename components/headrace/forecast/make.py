"""From a report and flags to the plan of a training, as `plan.json` holds it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import headrace
from headrace import inputs
from headrace.artifacts.files import read_json
from headrace.errors import InputError
from headrace.forecast import amounts as data
from headrace.forecast import architecture, commits, counted, division, hardware, memory, pace, precision
from headrace.forecast.architecture import Architecture
from headrace.forecast.division import Division
from headrace.forecast.hardware import Hardware
from headrace.forecast.memory import Manner, Memory
from headrace.forecast.precision import Precision
from headrace.options import Options, training_value
from headrace.stream.order import exact_world_sizes
from headrace.stream.tokenizer import load_limits, model_folder

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is planned: the model's shape, in which precision, on what, in blocks of how many tokens."""

    name: str
    shape: Architecture
    hardware: Hardware
    precision: Precision
    block: int
    tokenizer_bytes: int
    optimizer: str
    manner: Manner

    def memory(self, parts: Division) -> Memory:
        """Peak memory of a rank with this division of a step."""
        return memory.estimate(
            self.shape, self.precision, self.manner, micro_batch=parts.micro_batch, block=self.block,
            accumulation=parts.accumulation, optimizer=self.optimizer, ranks=parts.ranks,
        )  # fmt: skip

    def available(self, ranks: int) -> int:
        """Bytes that a rank may use: all of an accelerator, its part of this machine otherwise."""
        return self.hardware.memory_bytes // (1 if self.hardware.accelerator else ranks)


def make(options: Options) -> dict[str, Any]:
    """The plan, ready for strict JSON; InputError for whatever in the flags or the report cannot be planned with."""
    report = data.read_report(options.plan.report)
    ranks = options.plan.gpus or options.validate.world_size or 1
    subject = _subject(options, report)
    global_batch = inputs.global_batch(options, ranks)
    lanes, lanes_from = data.lanes_of(options, report, global_batch=global_batch, block=subject.block)
    common = {"global_batch": global_batch, "lanes": lanes, "ranks": ranks}
    best = division.recommend(**common, fits=lambda d: subject.memory(d).fits(subject.available(ranks)) == "yes")
    parts = _division(options, common, best)
    wanted = data.amounts(options, report, global_batch=global_batch, block=subject.block, lanes=lanes, ranks=ranks)
    speed = pace.estimate(
        subject.shape, parts, subject.hardware, subject.precision, block=subject.block, steps=wanted.steps,
        tokens_per_step=wanted.tokens_per_step, manner=subject.manner,
        data_tokens_per_s=options.plan.data_tokens_per_s or report.data_tokens_per_s,
        price=options.plan.price_per_gpu_hour,
    )  # fmt: skip
    peak = subject.memory(parts)
    saved = commits.estimate(
        model_bytes=peak.weights, optimizer_bytes=peak.optimizer, tokenizer_bytes=subject.tokenizer_bytes,
        ranks=ranks, steps=wanted.steps, every=_save_every(options, wanted.steps),
        keep=options.training.get("save_total_limit"), commit_every_s=options.train.commit_every_s,
        step_s=speed.step_s, only_model=bool(training_value(options, "save_only_model")),
    )  # fmt: skip
    available = subject.available(ranks)
    return {
        "version": VERSION,
        "headrace": headrace.__version__,
        "report": _report(report),
        "model": {"name": subject.name, "block": subject.block, **asdict(subject.shape)},
        "hardware": {**asdict(subject.hardware), "peak_flops": dict(subject.hardware.peak_flops)},
        "run": {**asdict(parts), "lanes_from": lanes_from, **_run(subject, parts, best)},
        "data": asdict(wanted),
        "memory": {**asdict(peak), "available": available, "fits": peak.fits(available)},
        "pace": asdict(speed),
        "checkpoints": asdict(saved),
        "notes": _notes(options, report, subject, parts, wanted),
    }  # fmt: skip


def _report(report: data.Report) -> dict[str, Any]:
    dataset = report["dataset"]
    return {
        "path": str(report.path), "verdict": report["verdict"], "dataset": dataset["name"],
        "manifest_hash": dataset["manifest_hash"], "exact": report["estimates"]["exact"],
    }  # fmt: skip


def _run(subject: Subject, parts: Division, best: Division | None) -> dict[str, Any]:
    return {
        "precision": str(subject.precision), "optimizer": subject.optimizer,
        "gradient_checkpointing": subject.manner.recompute,
        "exact_world_sizes": exact_world_sizes(parts.global_batch, parts.lanes),
        "recommended": asdict(best) if best else None,
    }  # fmt: skip


def _subject(options: Options, report: data.Report) -> Subject:
    name = options.model.model_name_or_path or report["model"]["name"]
    if not name:
        raise InputError(
            "--model_name_or_path is missing, and the report names no model", "say which model is to be trained"
        )
    folder = model_folder(inputs.small_files(name), revision=options.model.model_revision)
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise InputError(f"{folder / 'config.json'} is no JSON object", "name a model in Hugging Face's layout")
    if architecture.known(config):
        shape = architecture.shape(config, name=name)
    else:
        shape = counted.count(
            folder, name=name, model_type=str(config.get("model_type", "")),
            trust_remote_code=options.model.trust_remote_code,
        )  # fmt: skip
    tokenizer = report["tokenizer"]
    if shape.vocabulary < tokenizer["size"]:
        raise InputError(
            f"the report counts tokens of {tokenizer['name']}, with ids up to {tokenizer['size'] - 1}; {name} has a "
            f"vocabulary of {shape.vocabulary}",
            "validate with this model, then plan",
        )
    device = hardware.find(options.plan.hardware)
    if device.accelerator and training_value(options, "use_cpu"):
        raise InputError(
            f"--use_cpu is set: training would leave the {device.says} idle", "add --use_cpu false, or --hardware cpu"
        )
    size = folder / "tokenizer.json"
    return Subject(
        name=name, shape=shape, hardware=device, precision=precision.choose(options, device, config),
        block=_block(options, report, name, folder), tokenizer_bytes=size.stat().st_size if size.is_file() else 0,
        optimizer=str(training_value(options, "optim")), manner=_manner(options, device),
    )  # fmt: skip


def _manner(options: Options, device: Hardware) -> Manner:
    attention = options.model.attn_implementation or "sdpa"
    return Manner(
        eager=attention == "eager",
        masked=options.dataset.dataset_group_text and "flash" not in attention,
        recompute=bool(training_value(options, "gradient_checkpointing")),
        fused=bool(training_value(options, "torch_compile") or training_value(options, "use_liger_kernel")),
        on_cpu=not device.accelerator,
    )


def _block(options: Options, report: data.Report, name: str, folder: Path) -> int:
    if name == report["model"]["name"] and not {"dataset_block_size", "dataset_max_seq_length"} & options.given:
        return int(report["plan"]["block"])
    return inputs.block_size(options, load_limits(str(folder)))


def _division(options: Options, common: dict[str, int], best: Division | None) -> Division:
    """As the flags have it; where they name no micro-batch, the recommended one, or one row."""
    if "per_device_train_batch_size" in options.given or best is None:
        asked = training_value(options, "per_device_train_batch_size")
        given = "per_device_train_batch_size" in options.given
        return division.divide(**common, micro_batch=asked if given else 1)
    return best


def _save_every(options: Options, steps: int) -> int | None:
    strategy = str(training_value(options, "save_strategy"))
    if strategy == "no":
        return None
    if strategy == "epoch":
        return max(1, math.ceil(steps / max(1.0, float(training_value(options, "num_train_epochs")))))
    every = float(training_value(options, "save_steps"))
    return max(1, math.ceil(every * steps) if every < 1 else int(every))


def _notes(options: Options, report: data.Report, subject: Subject, parts: Division, wanted: data.Amounts) -> list[str]:
    """What a reader has to know to weigh the numbers."""
    notes = []
    if not memory.knows_optimizer(subject.optimizer):
        notes.append(f"What {subject.optimizer} keeps is not known here; it is taken for AdamW.")
    if not subject.shape.formula:
        notes.append(
            f"{subject.shape.model_type} has no formula: its parameters were counted, its activations guessed."
        )
    if options.training.get("fsdp") or options.training.get("deepspeed"):
        notes.append("Sharding (fsdp, deepspeed) is not modelled: memory is that of a whole replica on each rank.")
    if not options.dataset.dataset_group_text:
        notes.append("Without grouping a row holds one document and is padded to the block: padding is computed too.")
    if report["model"]["name"] != subject.name:
        notes.append(f"Tokens were counted with {report['tokenizer']['name']}.")
    if not report["estimates"]["exact"]:
        notes.append("The dataset's tokens are an estimate from a sample.")
    if parts.efficiency < 0.9:
        notes.append(f"{1 - parts.efficiency:.0%} of a step's rows are filler.")
    if wanted.epochs > 4:
        notes.append(
            "Beyond about four epochs, repeated data is worth little (Muennighoff et al., Scaling Data-Constrained "
            "Language Models, 2023)."
        )
    if subject.hardware.accelerator:
        notes.append("Traffic between ranks, evaluation and pauses for commits are not in the time.")
        notes.append("The share of the peak is an assumption; `mfu` in the log of a short run here replaces it.")
    return notes
