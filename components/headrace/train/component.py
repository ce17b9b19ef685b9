"""Training as a Kubeflow component.

No `from __future__ import annotations` here: kfp reads the annotations themselves.
"""

from typing import Any

from kfp import dsl

from headrace.images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def train(
    dataset_name: str,
    model_name_or_path: str,
    arguments: dict[str, Any],
    manifest: dsl.Input[dsl.Artifact],
    findings: dsl.Input[dsl.Artifact],
    heldout: dsl.Input[dsl.Dataset],
    duplicates: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    dataset_config_name: str = "",
    dataset_revision: str = "",
    store: str = "",
    wandb_project: str = "headrace",
    output_root: str = "",
    job: str = "",
    num_nodes: int = 1,
    nproc_per_node: int = 0,
    pods: dict[str, Any] = {},  # noqa: B006  # kfp reads the default; nobody changes it
) -> None:
    """Train on the stream, or go on training, and commit the model.

    Args:
        dataset_name: Hub name, or a folder, file, glob or URI of Parquet files.
        model_name_or_path: Hub name, folder or URI of the model to start from.
        arguments: further flags of `headrace train` by name, every one of TrainingArguments among them.
        manifest: the files and row groups that validation found.
        findings: validation's report as JSON, kept beside the model.
        heldout: the documents that are kept out of training.
        duplicates: with --dedup dataset, which rows are copies.
        dataset_config_name: configuration of a Hub dataset.
        dataset_revision: branch, tag or commit of a Hub dataset.
        store: folder or gs:// URI where checkpoints are committed.
        wandb_project: Weights & Biases project; the training is tracked only where WANDB_API_KEY is set.
        output_root: folder for the step's files, in `train`; empty for a temporary one.
        job: id of the pipeline run: a retry of one that failed for good stops at once.
        num_nodes: machines to train on; more than one makes a Kubeflow TrainJob, and takes a store that all pods see.
        nproc_per_node: processes a machine; 0 for one a GPU, and one without GPUs.
        pods: what the pods of a TrainJob get: cpu, memory, accelerators and the other fields in docs/nodes.md.

    Returns:
        model: checkpoint.json, which says where the committed model lies; without store and output_root the model.
        metrics: loss, tokens and throughput of the training.
    """
    from headrace.train import task

    task.run(
        {
            **arguments, "dataset_name": dataset_name, "model_name_or_path": model_name_or_path,
            "dataset_config_name": dataset_config_name, "dataset_revision": dataset_revision, "store": store,
            "wandb_project": wandb_project,
        },
        output_root, job=job, num_nodes=num_nodes, nproc_per_node=nproc_per_node, pods=pods, manifest=manifest,
        findings=findings, heldout=heldout, duplicates=duplicates, model=model, metrics=metrics,
    )  # fmt: skip
