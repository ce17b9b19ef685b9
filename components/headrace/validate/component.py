"""Validation as a Kubeflow component, and the task that says whether an earlier one still holds.

No `from __future__ import annotations` here: kfp reads the annotations themselves.
"""

from typing import Any, NamedTuple

from kfp import dsl

from headrace.images import image


@dsl.component(base_image=image("validate"), install_kfp_package=False)
def pin(
    dataset_name: str,
    model_name_or_path: str,
    arguments: dict[str, Any],
    dataset_config_name: str = "",
    dataset_revision: str = "",
) -> NamedTuple("Outputs", [("source", str)]):  # type: ignore[valid-type]
    """Find out what a validation would look at, in seconds, so that its earlier result holds while that is the same.

    Args:
        dataset_name: Hub name, or a folder, file, glob or URI of Parquet files.
        model_name_or_path: Hub name, folder or URI of the model whose tokenizer is used.
        arguments: further flags of `headrace validate` by name.
        dataset_config_name: configuration of a Hub dataset.
        dataset_revision: branch, tag or commit of a Hub dataset.

    Returns:
        source: a digest of the files, the tokenizer and the model's limits.
    """
    from headrace.validate.pin import pin

    source = pin(
        {
            **arguments, "dataset_name": dataset_name, "model_name_or_path": model_name_or_path,
            "dataset_config_name": dataset_config_name, "dataset_revision": dataset_revision,
        }
    )  # fmt: skip
    return (source,)


@dsl.component(base_image=image("validate"), install_kfp_package=False)
def validate(
    dataset_name: str,
    model_name_or_path: str,
    arguments: dict[str, Any],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
    findings: dsl.Output[dsl.Artifact],
    manifest: dsl.Output[dsl.Artifact],
    heldout: dsl.Output[dsl.Dataset],
    duplicates: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    dataset_config_name: str = "",
    dataset_revision: str = "",
    source: str = "",
    output_root: str = "",
) -> NamedTuple("Outputs", [("verdict", str), ("reason", str)]):  # type: ignore[valid-type]
    """Look at the stream before a GPU is paid for. A no-go is an answer, not a failure.

    Args:
        dataset_name: Hub name, or a folder, file, glob or URI of Parquet files.
        model_name_or_path: Hub name, folder or URI of the model whose tokenizer is used.
        arguments: further flags of `headrace validate` by name.
        dataset_config_name: configuration of a Hub dataset.
        dataset_revision: branch, tag or commit of a Hub dataset.
        source: what `pin` found: while it is the same, a back end may answer from its cache.
        output_root: folder for the step's files, in `validate`; empty for a temporary one.

    Returns:
        report: the report as a page.
        summary: the report as Markdown.
        findings: the report as JSON.
        manifest: the files and row groups that were found, for the training.
        heldout: the documents that are kept out of training.
        duplicates: with --dedup dataset, which rows are copies.
        metrics: rows, tokens and shares of unusable rows.
        verdict: go, warn or no-go.
        reason: why it is no-go, in a line; else empty.
    """
    from headrace.validate import task

    return task.run(
        {
            **arguments, "dataset_name": dataset_name, "model_name_or_path": model_name_or_path,
            "dataset_config_name": dataset_config_name, "dataset_revision": dataset_revision,
        },
        output_root, source=source, report=report, summary=summary, findings=findings, manifest=manifest,
        heldout=heldout, duplicates=duplicates, metrics=metrics,
    )  # fmt: skip
