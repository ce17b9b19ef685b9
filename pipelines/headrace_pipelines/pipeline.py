"""The DAG, the same one for Kubeflow and for this machine.

No `from __future__ import annotations` here: kfp reads the annotations themselves.
"""

from typing import Any

from kfp import dsl

from headrace.evaluate.component import evaluate
from headrace.train.component import train
from headrace.validate.component import refuse, validate

NO_GO = "no-go"


@dsl.pipeline(name="headrace", description="Validate a stream of documents, train a language model on it, publish it.")
def pipeline(
    dataset_name: str,
    model_name_or_path: str,
    dataset_config_name: str = "",
    dataset_revision: str = "",
    arguments: dict[str, Any] = {},  # noqa: B006  # kfp reads the default; nobody changes it
    store: str = "",
    publish: str = "",
    output_root: str = "",
) -> None:
    """Validate, then train and evaluate unless the verdict is a no-go, which ends in a failing task."""
    data = {
        "dataset_name": dataset_name,
        "dataset_config_name": dataset_config_name,
        "dataset_revision": dataset_revision,
        "arguments": arguments,
        "output_root": output_root,
    }
    looked = validate(model_name_or_path=model_name_or_path, **data)
    looked.set_caching_options(False)  # a name may hold other data tomorrow
    with dsl.If(looked.outputs["Output"] == NO_GO, name="no-go"):
        refuse(reason="validation says no-go: see its report").set_caching_options(False)
    with dsl.Else(name="go"):
        trained = train(
            model_name_or_path=model_name_or_path,
            manifest=looked.outputs["manifest"],
            heldout=looked.outputs["heldout"],
            store=store,
            **data,
        )
        trained.set_caching_options(False)
        evaluate(
            model=trained.outputs["model"], heldout=looked.outputs["heldout"], publish=publish, **data
        ).set_caching_options(False)
