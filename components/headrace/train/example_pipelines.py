"""Training by itself, on what a validation left earlier.

The validation's artifacts are imported by their URIs, so this step may run in another pipeline, on another day.

No `from __future__ import annotations` here: kfp reads the annotations themselves.
"""

from typing import Any

from kfp import dsl

from headrace.train.component import train


@dsl.pipeline(name="headrace-train-example")
def train_what_was_validated(
    manifest: str,
    findings: str,
    heldout: str,
    duplicates: str,
    dataset_name: str = "HuggingFaceFW/fineweb",
    dataset_config_name: str = "CC-MAIN-2024-10",
    model_name_or_path: str = "openai-community/gpt2",
    arguments: dict[str, Any] = {"max_steps": 2500, "per_device_train_batch_size": 8},  # noqa: B006  # kfp reads it
    store: str = "",
) -> None:
    """Train on a stream that was validated.

    Args:
        manifest: URI of the validation's artifact of that name; so are the next three.
        findings: URI of the validation's report as JSON.
        heldout: URI of the documents that are kept out of training.
        duplicates: URI of the bitmap of copies; an empty file when none were looked for.
        dataset_name: the dataset that was validated.
        dataset_config_name: configuration of a Hub dataset.
        model_name_or_path: Hub name, folder or URI of the model to start from.
        arguments: further flags of `headrace train` by name, every one of TrainingArguments among them.
        store: folder or gs:// URI where checkpoints are committed; empty for the model artifact.
    """
    looked = {}
    for name, uri, kind in (
        ("manifest", manifest, dsl.Artifact),
        ("findings", findings, dsl.Artifact),
        ("heldout", heldout, dsl.Dataset),
        ("duplicates", duplicates, dsl.Dataset),
    ):
        imported = dsl.importer(artifact_uri=uri, artifact_class=kind)
        looked[name] = imported.set_display_name(name).output
    train(
        dataset_name=dataset_name,
        dataset_config_name=dataset_config_name,
        model_name_or_path=model_name_or_path,
        arguments=arguments,
        store=store,
        **looked,
    )
