"""The model card: README.md with the metadata that the Hub reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

SHOWN = (
    ("eval_loss", "held-out loss, nats a token", "{:.4f}"),
    ("perplexity", "perplexity", "{:.2f}"),
    ("accuracy", "next-token accuracy", "{:.4f}"),
    ("bits_per_byte", "bits a byte", "{:.4f}"),
    ("unigram_loss", "unigram loss of the same tokens", "{:.4f}"),
    ("loss_over_unigram", "loss over unigram loss", "{:.4f}"),
    ("documents", "documents", "{:,}"),
    ("tokens", "tokens", "{:,}"),
)
"""Metrics for people: key, words, format."""
_INDEXED = ("eval_loss", "perplexity", "accuracy", "bits_per_byte")


def table(metrics: Mapping[str, Any], style: str = "simple") -> str:
    """The metrics and their intervals as text, in a style of tabulate's."""
    rows = [
        (words, _shown(metrics.get(key), form), _interval(metrics.get(f"{key}_interval"), form))
        for key, words, form in SHOWN
    ]
    extra = [(f"--metric {key}", _shown(value, "{:.4f}"), "") for key, value in metrics.get("metrics", {}).items()]
    headers = ("metric", "value", "95 % interval")
    return tabulate([*rows, *extra], headers, tablefmt=style, disable_numparse=True, colalign=("left", "right", "left"))


def _shown(value: Any, form: str) -> str:
    if value is None:
        return "not finite"
    return form.format(value) if isinstance(value, int | float) else str(value)


def _interval(bounds: Any, form: str) -> str:
    return " to ".join(_shown(v, form) for v in bounds) if bounds else ""


def make_card(*, name: str, metrics: Mapping[str, Any], lineage: Mapping[str, Any]) -> str:
    """The card's text: what the model is, how well it does on which documents, what it was made of, how to use it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    dataset = lineage.get("dataset") or {}
    return environment.get_template("card.md.j2").render(
        metadata=_metadata(name, metrics, dataset, lineage.get("parent") or {}),
        name=name,
        summary=_summary(lineage, dataset),
        results=table(metrics, "github"),
        documents=f"{metrics['documents']:,}",
        origin=lineage["heldout"]["origin"],
        digest=lineage["heldout"]["digest"][:12],
        block=metrics["block"],
        caution=metrics.get("heldout_note"),
        facts=tabulate(_facts(lineage, dataset), ("", ""), tablefmt="github", disable_numparse=True),
    )


def _metadata(name: str, metrics: Mapping[str, Any], dataset: Mapping[str, Any], parent: Mapping[str, Any]) -> str:
    """The YAML that the Hub reads, results included."""
    from huggingface_hub import EvalResult, ModelCardData

    source = str(dataset.get("name") or "unknown")
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=source,
            dataset_name=f"{source}, held out",
            metric_type=key,
            metric_value=metrics[key],
        )
        for key in _INDEXED
        if metrics.get(key) is not None
    ]
    sources = dataset.get("sources") or [dataset]  # of one dataset there may be several: its configurations
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["headrace"],
        # Only a Hub dataset has a revision, and only such a one may be named here.
        datasets=list(dict.fromkeys(str(s["name"]) for s in sources if s.get("revision"))) or None,
        base_model=parent["model"] if parent.get("revision") and not parent.get("random_weights") else None,
        model_name=name,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def _summary(lineage: Mapping[str, Any], dataset: Mapping[str, Any]) -> str:
    training = lineage.get("training") or {}
    if not training.get("steps"):
        return f"A causal language model, scored and published with Headrace {lineage['headrace']}."
    tokens = f" on {training['tokens']:,} tokens" if training.get("tokens") else ""
    source = f" of `{dataset['name']}`" if dataset.get("name") else ""
    return (
        f"A causal language model, trained for {training['steps']:,} steps{tokens}{source} "
        f"with Headrace {training.get('version') or lineage['headrace']}."
    )


def _facts(lineage: Mapping[str, Any], dataset: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the lineage says for people, as rows; what it does not know is left out."""
    training = lineage.get("training") or {}
    rows = [
        ("dataset", dataset.get("name")),
        ("configuration", dataset.get("config")),
        ("split", dataset.get("split")),
        ("dataset revision", dataset.get("revision")),
        ("manifest", dataset.get("manifest_hash")),
        ("plan", lineage.get("plan_hash")),
        ("checkpoint", lineage.get("commit_hash")),
        ("step", lineage.get("step")),
        ("model revision", lineage.get("model_revision")),
        ("parameters", training.get("parameters")),
        ("samples a step", training.get("global_batch")),
        ("tokens a sample", training.get("block")),
        ("ranks", lineage.get("world_size")),
        ("image", lineage.get("image")),
        ("code", lineage.get("git_commit")),
        ("began from", (lineage.get("parent") or {}).get("model")),
        ("gate", (lineage.get("gate") or {}).get("outcome")),
    ]
    return [(name, f"`{value}`") for name, value in rows if value not in (None, "")]
