"""Validation by itself: is a dataset fit to train on? Runs on CPUs.

No `from __future__ import annotations` here: kfp reads the annotations themselves.
"""

from typing import Any

from kfp import dsl

from headrace.validate.component import pin, validate


@dsl.pipeline(name="headrace-validate-example")
def look_before_training(
    dataset_name: str = "HuggingFaceFW/fineweb",
    dataset_config_name: str = "CC-MAIN-2024-10",
    model_name_or_path: str = "openai-community/gpt2",
    arguments: dict[str, Any] = {},  # noqa: B006  # kfp reads the default; nobody changes it
) -> str:
    """Look at a stream; the report is the validation's artifact, the verdict the pipeline's output.

    Args:
        dataset_name: Hub name, or a folder, file, glob or URI of files.
        dataset_config_name: configuration of a Hub dataset.
        model_name_or_path: Hub name, folder or URI of the model whose tokenizer is used.
        arguments: further flags of `headrace validate` by name.

    Returns:
        go, warn or no-go, for the pipeline around this one to act on.
    """
    data = {
        "dataset_name": dataset_name,
        "dataset_config_name": dataset_config_name,
        "model_name_or_path": model_name_or_path,
        "arguments": arguments,
    }
    pinned = pin(**data).set_caching_options(False)
    # While `pin` finds the same, a back end may answer this from its cache.
    looked = validate(source=pinned.output, **data)
    verdict: str = looked.outputs["verdict"]
    return verdict
