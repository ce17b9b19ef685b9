"""Evaluation by itself: score a model that was trained earlier, and publish it.

No `from __future__ import annotations` here: kfp reads the annotations themselves.
"""

from typing import Any

from kfp import dsl

from headrace.evaluate.component import evaluate


@dsl.pipeline(name="headrace-evaluate-example")
def score_and_publish(
    model: str,
    heldout: str,
    dataset_name: str = "HuggingFaceFW/fineweb",
    dataset_config_name: str = "CC-MAIN-2024-10",
    publish: str = "",
    arguments: dict[str, Any] = {},  # noqa: B006  # kfp reads the default; nobody changes it
) -> None:
    """Score a committed model on held-out documents and publish it.

    Args:
        model: URI of the model artifact of a training.
        heldout: URI of the validation's held-out documents.
        dataset_name: the dataset that the model was trained on.
        dataset_config_name: configuration of a Hub dataset.
        publish: folder or gs:// URI to publish to; empty for an artifact of the run.
        arguments: further flags of `headrace evaluate` by name.
    """
    trained = dsl.importer(artifact_uri=model, artifact_class=dsl.Model).set_display_name("model")
    kept_out = dsl.importer(artifact_uri=heldout, artifact_class=dsl.Dataset).set_display_name("heldout")
    evaluate(
        dataset_name=dataset_name,
        dataset_config_name=dataset_config_name,
        arguments=arguments,
        model=trained.output,
        heldout=kept_out.output,
        publish=publish,
    )
