"""The options, by the step that owns them. Flags, `--help` and the docs are derived from these fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


def option(default: Any, text: str, **extra: Any) -> Any:
    """A dataclass field with its help text; `choices` may follow."""
    return field(default=default, metadata={"help": text, **extra})


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """Which documents there are, and how they become blocks of tokens."""

    dataset_name: str | None = option(
        None,
        "Hub name, or a folder, file, glob or URI (gs://, s3://, https://, hf://) of Parquet, JSON lines or others",
    )
    dataset_mixture: dict[str, Any] | list[Any] | None = option(
        None,
        "instead of dataset_name: a list of sources with name and weight, and config, revision, split or text_field "
        "where needed; see examples/mixture.yaml",
    )
    dataset_config_name: str | None = option(None, "configuration of a Hub dataset, such as CC-MAIN-2024-10")
    dataset_revision: str | None = option(None, "branch, tag or commit of a Hub dataset; its commit is recorded")
    dataset_train_split: str = option("train", "split to train on")
    dataset_test_split: str = option("test", "split to evaluate on when it exists and --heldout_fraction is 0")
    dataset_text_field: str = option("text", "column that holds the text")
    dataset_max_seq_length: int | None = option(
        None, "with --dataset_group_text false: tokens a row at most; longer documents go on in further rows"
    )
    dataset_num_proc: int = option(1, "files looked at or tokenised to disk at the same time")
    dataset_group_text: bool = option(True, "pack documents into full blocks; false: one document a row")
    dataset_group_text_validation: bool = option(
        True, "changes nothing: held-out documents are scored whole, each by itself, whether packed or not"
    )
    dataset_block_size: int | None = option(None, "tokens a block (default: the model's limit, at most 8192)")
    dataset_streaming: bool = option(True, "false: tokenise to disk first; same tokens, same order, lengths known")
    tokenized_dataset_save_dir: str | None = option(None, "write the tokenised dataset here")
    tokenized_dataset_load_dir: str | None = option(None, "read the dataset tokenised earlier from here")
    dataset_filter: list[str] | None = option(
        None, "train only rows where COLUMN OPERATOR VALUE holds, such as 'language_score >= 0.65'; may be repeated"
    )
    dedup: str = option(
        "none",
        "drop exact copies of a document: row_window (within some 1,000 rows) or dataset (all of it is read first)",
        choices=("none", "row_window", "dataset"),
    )
    duplicates: str | None = option(None, "bitmap of copies made by validate (duplicates.parquet), for --dedup dataset")
    max_train_samples: int | None = option(None, "use only the first N rows of the source")
    max_eval_samples: int | None = option(None, "held-out documents at most (default 512); needs --do_eval in train")
    heldout_fraction: float = option(0.02, "share of rows held out of training by content; 0 for none")
    heldout: str | None = option(None, "held-out slice made by validate (heldout.parquet)")
    manifest: str | None = option(None, "manifest made by validate (manifest.json)")
    lanes: int | None = option(None, "virtual lanes V of the order (default: from the data and the global batch)")
    read_deadline_s: float = option(600.0, "seconds a failing read is retried before it is an error")


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model and tokenizer."""

    model_name_or_path: str | None = option(None, "Hub name, folder, URI, or a training output")
    model_revision: str | None = option(None, "branch, tag or commit of a Hub model")
    init_from_config: bool = option(False, "random weights: read only the configuration of the model")
    tokenizer: str | None = option(None, "Hub name or folder of another tokenizer than the model's")
    torch_dtype: str | None = option(
        None, "dtype of the weights: auto, none, or a name such as bfloat16 (default: float32)"
    )
    attn_implementation: str | None = option(None, "attention kernel: eager, sdpa, flash_attention_2 …")
    trust_remote_code: bool = option(False, "run code that a Hub model brings")


@dataclass(frozen=True, kw_only=True)
class ValidateOptions:
    """How much of the stream is looked at before a GPU is paid for."""

    world_size: int | None = option(None, "ranks the training will have, checked against the lanes")
    validate_rows: int = option(20_000, "rows looked at closely, spread over the whole stream")
    validate_bytes: int = option(256 << 20, "text bytes looked at closely, at most")
    validate_s: float = option(600.0, "seconds after which no more rows are looked at closely")
    validate_thresholds: dict[str, Any] | None = option(
        None, "limits of the verdict by name, such as '{\"warn_wasted\": 0.1}'; docs/validation.md lists them"
    )
    gpu_tokens_per_s: float | None = option(
        None, "tokens a second that one GPU trains, for a forecast of whether the stream keeps up"
    )
    manifest_cache: str | None = option(
        None,
        "folder that keeps the footers already read, so that a survey of many files goes on where it was stopped "
        "(default: headrace/footers in the user's cache folder; none: keep nothing)",
    )


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What Headrace adds to `TrainingArguments`."""

    store: str | None = option(None, "folder or gs:// URI where checkpoints are committed (default: output_dir)")
    run_id: str | None = option(None, "name of the run (default: made at the first start)")
    fresh: bool = option(False, "start over in a new place; nothing is deleted")
    commit_every_s: float = option(600.0, "seconds after which a checkpoint is committed beside --save_steps; 0: never")
    grace_s: float = option(25.0, "seconds from SIGTERM until the process is killed: it commits when that fits")
    global_batch_size: int | None = option(
        None, "samples a step over all ranks (default: per-device batch x accumulation x ranks)"
    )
    num_nodes: int = option(1, "machines to train on; more than one, in a pipeline, makes a Kubeflow TrainJob")
    nproc_per_node: int | None = option(None, "processes a machine (default: one a GPU, one without GPUs)")
    torch_threads: int | None = option(None, "CPU threads of torch (default: the cores, shared by the ranks here)")
    sample_prompt: list[str] | None = option(
        None, "text to continue before and after training, those of the first start; may be repeated"
    )


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How the checkpoint is scored and where it is published."""

    eval_batch_size: int = option(8, "windows a micro-batch when scoring")
    metric: list[str] | None = option(
        None, "`evaluate` metric over next tokens: accuracy, or the path of a metric script; may be repeated"
    )
    gate: str = option(
        "block",
        "what becomes of a model that misses a --gate_threshold, or may be worse than the one that is current at "
        "--publish: block (it is not published, exit 3), warn, or off (nothing is looked at)",
        choices=("off", "warn", "block"),
    )
    gate_threshold: list[str] | None = option(
        None,
        "publish only a model with METRIC OPERATOR NUMBER, such as 'perplexity <= 30'; may be repeated, all must hold",
    )
    gate_max_regression: float = option(
        0.01,
        "nats a token by which a model may be worse than the current one at most, with 95 % confidence on the same "
        "held-out documents; 0 or less: it must be better",
    )
    publish: str | None = option(None, "folder or gs:// URI to publish to (default: `published` in output_dir)")


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What `headrace plan` reckons with, beside the flags of training."""

    report: str | None = option(None, "report.json that validate wrote, or its folder")
    hardware: str | None = option(
        None, "what trains: h100, h200, a100-40, a100-80, l4, t4, v100-16, v100-32, rtx-4090, cpu, or a YAML file"
    )
    gpus: int | None = option(None, "accelerators, one a rank (default: --world_size, or 1)")
    price_per_gpu_hour: float | None = option(None, "price of one accelerator for an hour, in any currency")
    data_tokens_per_s: float | None = option(
        None, "tokens a second that the stream gives one rank (default: what the report measured, where it did)"
    )


@dataclass(frozen=True, kw_only=True)
class TrackingOptions:
    """Where a run can be watched."""

    wandb_project: str = option("headrace", "Weights & Biases project; online only when WANDB_API_KEY is set")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything one command line or file said.

    training: `TrainingArguments` by name, only those that were given.
    given: names that were given, to tell a default from a choice.
    """

    dataset: DatasetOptions = field(default_factory=DatasetOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    validate: ValidateOptions = field(default_factory=ValidateOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    tracking: TrackingOptions = field(default_factory=TrackingOptions)
    plan: PlanOptions = field(default_factory=PlanOptions)
    training: Mapping[str, Any] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    debug: bool = False
