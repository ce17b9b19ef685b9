"""The DAG, the same one for Kubeflow and for this machine.

No `from __future__ import annotations` here: kfp reads the annotations themselves.
"""

from typing import Any

from kfp import dsl

from headrace import images
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
    """Validate, then train and evaluate unless the verdict is a no-go, which ends in a failing task.

    Args:
        dataset_name: Hub name, or a folder, file, glob or URI of files; empty with a dataset_mixture in `arguments`.
        model_name_or_path: Hub name, folder or URI of the model to start from.
        dataset_config_name: configuration of a Hub dataset.
        dataset_revision: branch, tag or commit of a Hub dataset; its commit is recorded.
        arguments: further flags of the steps by name, every one of TrainingArguments among them.
        store: folder or gs:// URI where checkpoints are committed; empty for the model artifact.
        publish: folder or gs:// URI to publish to; empty for an artifact of the run.
        output_root: folder that all steps see, each to write in one of its own below; empty for none.
    """
    data = {
        "dataset_name": dataset_name,
        "dataset_config_name": dataset_config_name,
        "dataset_revision": dataset_revision,
        "arguments": arguments,
        "output_root": output_root,
    }
    looked = validate(model_name_or_path=model_name_or_path, **data)
    looked.set_caching_options(False)  # a name may hold other data tomorrow
    with dsl.If(looked.outputs["verdict"] == NO_GO, name="no-go"):
        refused = refuse(reason=looked.outputs["reason"])
        refused.set_caching_options(False)
    with dsl.Else(name="go"):
        trained = train(
            model_name_or_path=model_name_or_path,
            manifest=looked.outputs["manifest"],
            findings=looked.outputs["findings"],
            heldout=looked.outputs["heldout"],
            duplicates=looked.outputs["duplicates"],
            store=store,
            job=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            **data,
        )
        trained.set_caching_options(False)
        scored = evaluate(model=trained.outputs["model"], heldout=looked.outputs["heldout"], publish=publish, **data)
        scored.set_caching_options(False)
    for task in (looked, refused, trained, scored):
        task.set_env_variable(images.EXPECTED, images.tag())
