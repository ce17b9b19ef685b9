"""The end of a training: the final model committed, its numbers in strict JSON, and a summary for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tabulate import tabulate

import headrace
from headrace.artifacts.checkpoint import COMMIT, REFERENCE
from headrace.artifacts.files import finite, read_json, write_json
from headrace.artifacts.provenance import software
from headrace.train.checkpoints import Checkpoints, final_files
from headrace.train.data import Data
from headrace.train.record import RECORD, dataset_facts, heldout_facts, history


def train_metrics(state: Mapping[str, Any], epoch: float | None, flos: float) -> dict[str, Any]:
    """`train_results.json` of a run whose last checkpoint has this data state."""
    trained, loss, step = state["trained"], state["loss"], int(state["step"])
    running = [math.nan if value is None else value for value in loss["running"]]
    total = math.nan if loss["total"] is None else loss["total"]
    seconds = max(float(trained["seconds"]), 1e-9)
    return finite(
        {
            **({"epoch": epoch} if epoch is not None else {}),
            "total_flos": flos,
            "train_loss": (total + sum(running) / len(running)) / step,
            "train_runtime": round(seconds, 4),
            "train_samples": trained["samples"],
            "train_samples_per_second": round(trained["samples"] / seconds, 3),
            "train_steps_per_second": round(step / seconds, 3),
            "train_tokens": trained["tokens"],
            "train_tokens_per_second": round(trained["tokens"] / seconds, 1),
        }
    )


def write_results(output_dir: Path, split: str, metrics: Mapping[str, Any]) -> None:
    """`SPLIT_results.json`, and the same names in `all_results.json` beside what is there."""
    plain = finite(metrics)
    write_json(output_dir / f"{split}_results.json", plain)
    path = output_dir / "all_results.json"
    others = read_json(path) if path.is_file() else {}
    write_json(path, {**others, **plain})


def retract(output_dir: Path) -> None:
    """Take back an earlier final model's commit before its files are written over."""
    for name in (REFERENCE, COMMIT):
        (output_dir / name).unlink(missing_ok=True)


def write_final(
    output_dir: Path,
    checkpoints: Checkpoints,
    data: Data,
    trainer: Any,
    *,
    metrics: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything beside the model's own files, then the commit, then the copy in the store; the record.

    `facts` are the record's fields that the trainer does not know.
    """
    step = trainer.state.global_step
    write_results(output_dir, "train", metrics)
    if evaluation is not None:
        write_results(output_dir, "eval", evaluation)
    write_json(output_dir / "trainer_state.json", asdict(trainer.state))
    tokens, seconds = int(metrics["train_tokens"]), float(metrics["train_runtime"])
    record = {
        "version": headrace.__version__,
        **software(),
        "plan": data.plan.to_json(),
        "plan_hash": data.plan.hash,
        "dataset": dataset_facts(data.manifest),
        "heldout": heldout_facts(data.heldout, data.manifest),
        "global_batch": data.plan.global_batch,
        "block": data.plan.block,
        "lanes": data.plan.lanes,
        "horizon": {"steps": data.horizon.steps, "epochs": data.horizon.epochs},
        "steps": step,
        "loss": metrics["train_loss"],
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_s": round(tokens / max(seconds, 1e-9), 1),
        "evaluation": dict(evaluation) if evaluation is not None else None,
        **facts,
        "history": history(trainer.state.log_history),
    }
    write_json(output_dir / RECORD, record)
    head = trainer.keeper.head(step)
    committed = checkpoints.publish(final_files(output_dir), step=step, plan_hash=data.plan.hash, ledger_head=head)
    return {**record, "commit_hash": committed.hash}


def summary(record: Mapping[str, Any], place: str) -> str:
    """The table printed at the end."""
    dataset, loss = record["dataset"], record["loss"]
    rows = f", {dataset['rows']:,} rows" if dataset["rows"] is not None else ""
    dropped = ", ".join(f"{n:,} {why}" for why, n in sorted(record["stream"]["dropped"].items()))
    low, high = record["stream"]["epochs"]
    batch = f"{record['per_device_batch']} x {record['accumulation']} x {record['world_size']}"
    table = [
        ("parameters", f"{record['parameters']:,}"),
        ("dataset", f"{dataset['name']} ({dataset['files']:,} files{rows})"),
        ("plan", f"{record['plan_hash'][:12]}: blocks of {record['block']}, {record['lanes']} lanes"),
        ("samples a step", f"{record['global_batch']} (per device x accumulation x ranks: {batch})"),
        ("efficiency", f"{record['efficiency']:.0%} of rows trained"),
        ("steps", f"{record['steps']:,}"),
        ("tokens", f"{record['tokens']:,}"),
        ("epochs", f"lanes stand in epoch {low + 1}" + (f" to {high + 1}" if high > low else "")),
        ("rows dropped", dropped or "none"),
        ("loss", "none" if loss is None else f"{loss:.4f}"),
        ("tokens/s", f"{record['tokens_per_s']:,.0f}"),
    ]
    evaluation = record["evaluation"] or {}
    if evaluation.get("eval_loss") is not None:
        table.append(("held-out loss", f"{evaluation['eval_loss']:.4f}"))
    return tabulate([*table, ("model", place)], tablefmt="plain", disable_numparse=True)


def outcome(record: Mapping[str, Any], output_dir: Path, *, resumed: str | None) -> dict[str, Any]:
    """What `outcome.json` says of a training."""
    names = ("run_id", "plan_hash", "steps", "tokens", "loss", "tokens_per_s", "world_size")
    return {"model": str(output_dir), "resumed_from": resumed, **{name: record[name] for name in names}}
