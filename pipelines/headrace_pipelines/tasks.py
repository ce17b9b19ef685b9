"""The pipeline's own tasks, beside the three steps.

No `from __future__ import annotations` here: kfp reads the annotations themselves.
"""

from typing import Any, NamedTuple

from kfp import dsl

from headrace.images import image


@dsl.component(base_image=image("validate"), install_kfp_package=False)
def refuse(reason: str) -> None:
    """End a run that must not go on, so that nobody takes it for a success.

    Args:
        reason: what to say.
    """
    from headrace.errors import Refused

    raise Refused(reason)


@dsl.component(base_image=image("validate"), install_kfp_package=False)
def record(
    status: dsl.PipelineTaskFinalStatus,
    job: str,
    dataset_name: str,
    model_name_or_path: str,
    arguments: dict[str, Any],
    store: str,
    publish: str,
    outcome: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> NamedTuple("Outputs", [("place", str)]):  # type: ignore[valid-type]
    """Write down how a run ended, whatever happened.

    Args:
        status: how the steps ended, from kfp.
        job: id of the pipeline run.
        dataset_name: as the run was given it.
        model_name_or_path: as the run was given it.
        arguments: as the run was given them.
        store: folder or gs:// URI where checkpoints are committed.
        publish: folder or gs:// URI where models are published.

    Returns:
        outcome: state, error, time, parameters and images as JSON.
        summary: the same for people.
        place: where the outcome lies besides, `runs/JOB.json` below `publish` or `store`; empty for nowhere.
    """
    from headrace_pipelines.recording import record

    parameters = {
        "dataset_name": dataset_name, "model_name_or_path": model_name_or_path, "arguments": arguments,
        "store": store, "publish": publish,
    }  # fmt: skip
    return (record(status, parameters, job, outcome=outcome, summary=summary),)
