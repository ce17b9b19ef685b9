"""Evaluation as a Kubeflow component.

No `from __future__ import annotations` here: kfp reads the annotations themselves.
"""

from typing import Any, NamedTuple

from kfp import dsl

from headrace.images import image


@dsl.component(base_image=image("evaluate"), install_kfp_package=False)
def evaluate(
    dataset_name: str,
    arguments: dict[str, Any],
    model: dsl.Input[dsl.Model],
    heldout: dsl.Input[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    results: dsl.Output[dsl.Artifact],
    dataset_config_name: str = "",
    dataset_revision: str = "",
    gate: str = "block",
    gate_threshold: list[str] = [],  # noqa: B006  # kfp reads the default; nobody changes it
    publish: str = "",
    wandb_project: str = "headrace",
    output_root: str = "",
) -> NamedTuple("Outputs", [("gate", str), ("reason", str), ("published", str)]):  # type: ignore[valid-type]
    """Score the committed model on the held-out documents and publish it if the gate lets it pass.

    Args:
        dataset_name: Hub name, or a folder, file, glob or URI of Parquet files.
        arguments: further flags of `headrace evaluate` by name.
        model: what the training committed.
        heldout: the documents that were kept out of training.
        dataset_config_name: configuration of a Hub dataset.
        dataset_revision: branch, tag or commit of a Hub dataset.
        gate: what becomes of a model that misses a threshold or may be worse than the current one: block, warn or off.
        gate_threshold: conditions of being published, such as "perplexity <= 30"; all must hold.
        publish: folder or gs:// URI to publish to.
        wandb_project: Weights & Biases project; online only where WANDB_API_KEY is set.
        output_root: folder for the step's files, in `evaluate`; empty for the artifact's own.

    Returns:
        metrics: loss, perplexity, accuracy and bits per byte.
        report: the run as a page.
        results: metrics.json, scores.parquet, lineage.json, the card; and without publish and output_root the model.
        gate: passed, warned, refused or not judged.
        reason: why it was refused, in a line; else empty.
        published: where the model was published; empty if it was refused.
    """
    from headrace.evaluate import task

    return task.run(
        {
            **arguments, "dataset_name": dataset_name, "dataset_config_name": dataset_config_name,
            "dataset_revision": dataset_revision, "gate": gate, "publish": publish, "wandb_project": wandb_project,
            "gate_threshold": gate_threshold or arguments.get("gate_threshold"),
        },
        output_root, model=model, heldout=heldout, metrics=metrics, report=report, results=results,
    )  # fmt: skip
