"""The DAG, the same one for Kubeflow, for Vertex AI and for this machine.

No `from __future__ import annotations` here: kfp reads the annotations themselves.
"""

from typing import Any

from kfp import dsl

from headrace import images
from headrace.evaluate.component import evaluate
from headrace.train.component import train
from headrace.validate.component import pin, validate
from headrace_pipelines.cluster import KFP, Cluster, Pod, equip, launcher, pods
from headrace_pipelines.tasks import record, refuse

NO_GO = "no-go"
REFUSED = "refused"


class _Outfit:
    """What each task of the DAG gets besides its inputs. cluster: None for a run on this machine."""

    def __init__(self, cluster: Cluster | None, target: str, several_nodes: bool) -> None:
        self._cluster, self._target, self._several_nodes = cluster, target, several_nodes

    def ready(self, task: dsl.PipelineTask, step: str = "", *, cached: bool = False) -> dsl.PipelineTask:
        """The task with its caching, its image's tag and, on a cluster, the pod of its step; "" for a small one."""
        task.set_caching_options(cached)
        task.set_env_variable(images.EXPECTED, images.tag())
        if self._cluster is not None:
            if step:  # with its digest, which an image cannot know of itself
                task.set_env_variable(images.HERE, images.image(step))
            equip(task, self._pod(self._cluster, step), self._target)
        return task

    def _pod(self, cluster: Cluster, step: str) -> Pod:
        if step == "train" and self._several_nodes:
            return launcher(cluster["train"], cluster["validate"])
        return cluster[step] if step else launcher(cluster["validate"])

    def end_refused(self, reason: Any) -> None:
        """A failing task, which is not tried again."""
        task = self.ready(refuse(reason=reason))
        if self._cluster is not None:
            task.set_retry(0)

    def nodes(self) -> dict[str, Any]:
        """What the pods of a TrainJob get; nothing where there can be none."""
        if self._cluster is None or self._target != KFP:
            return {}
        return {**pods(self._cluster["train"]), "launcher": self._several_nodes}


def make_pipeline(cluster: Cluster | None = None, target: str = KFP, *, several_nodes: bool = False) -> Any:
    """The DAG as a kfp pipeline, its tasks equipped for a cluster; without one as it runs on this machine.

    several_nodes: the train task's own pod is small; a TrainJob gets what the cluster has for it, on each node.
    Only validate may be answered from the cache, and only while `pin` finds the same files and tokenizer: a name may
    hold other data tomorrow.
    """
    outfit = _Outfit(cluster, target, several_nodes)
    ready = outfit.ready

    @dsl.pipeline(
        name="headrace", description="Validate a stream of documents, train a language model on it, publish it."
    )
    def pipeline(
        dataset_name: str,
        model_name_or_path: str,
        dataset_config_name: str = "",
        dataset_revision: str = "",
        arguments: dict[str, Any] = {},  # noqa: B006  # kfp reads the default; nobody changes it
        store: str = "",
        publish: str = "",
        gate: str = "block",
        gate_threshold: list[str] = [],  # noqa: B006
        wandb_project: str = "headrace",
        num_nodes: int = 1,
        nproc_per_node: int = 0,
        output_root: str = "",
    ) -> None:
        """Validate, then train and evaluate unless the verdict is a no-go; a no-go or a refusing gate fails the run.

        Args:
            dataset_name: Hub name, or a folder, file, glob or URI; empty with a dataset_mixture in `arguments`.
            model_name_or_path: Hub name, folder or URI of the model to start from.
            dataset_config_name: configuration of a Hub dataset.
            dataset_revision: branch, tag or commit of a Hub dataset; its commit is recorded.
            arguments: further flags of the steps by name, every one of TrainingArguments among them.
            store: folder or gs:// URI where checkpoints are committed; empty for the model artifact.
            publish: folder or gs:// URI to publish to; empty for an artifact of the run.
            gate: what becomes of a model that misses a threshold or may be worse than the current one.
            gate_threshold: conditions of being published, such as "perplexity <= 30"; all must hold.
            wandb_project: Weights & Biases project; online only where the secret with the key is.
            num_nodes: machines to train on; more than one makes a Kubeflow TrainJob, and takes a store that all see.
            nproc_per_node: processes a machine; 0 for one a GPU.
            output_root: folder that all steps see, each to write in one of its own below; empty for none.
        """
        data = {
            "dataset_name": dataset_name,
            "dataset_config_name": dataset_config_name,
            "dataset_revision": dataset_revision,
            "arguments": arguments,
        }
        job = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        recorded = record(
            job=job, dataset_name=dataset_name, model_name_or_path=model_name_or_path, arguments=arguments,
            store=store, publish=publish,
        )  # fmt: skip
        with dsl.ExitHandler(ready(recorded), name="steps"):
            pinned = ready(pin(model_name_or_path=model_name_or_path, **data))
            data["output_root"] = output_root
            looked = ready(
                validate(model_name_or_path=model_name_or_path, source=pinned.outputs["source"], **data),
                "validate",
                cached=True,
            )
            with dsl.If(looked.outputs["verdict"] == NO_GO, name="no-go"):
                outfit.end_refused(looked.outputs["reason"])
            with dsl.Else(name="go"):
                trained = train(
                    model_name_or_path=model_name_or_path,
                    manifest=looked.outputs["manifest"],
                    findings=looked.outputs["findings"],
                    heldout=looked.outputs["heldout"],
                    duplicates=looked.outputs["duplicates"],
                    store=store,
                    wandb_project=wandb_project,
                    job=job,
                    num_nodes=num_nodes,
                    nproc_per_node=nproc_per_node,
                    pods=outfit.nodes(),
                    **data,
                )
                ready(trained, "train")
                scored = evaluate(
                    model=trained.outputs["model"],
                    heldout=looked.outputs["heldout"],
                    gate=gate,
                    gate_threshold=gate_threshold,
                    publish=publish,
                    wandb_project=wandb_project,
                    **data,
                )
                ready(scored, "evaluate")
                with dsl.If(scored.outputs["gate"] == REFUSED, name="refused"):
                    outfit.end_refused(scored.outputs["reason"])
                with dsl.Else(name="passed"):
                    # The published model as an artifact of the back end's lineage; nothing is copied.
                    promoted = dsl.importer(
                        artifact_uri=scored.outputs["published"], artifact_class=dsl.Model, reimport=True
                    )
                    promoted.set_display_name("promote").set_caching_options(False)

    return pipeline
