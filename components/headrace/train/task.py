"""Training as a task of a pipeline: the model artifact says where the committed model lies."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.artifacts.checkpoint import COMMIT, REFERENCE, CheckpointRef
from headrace.artifacts.files import parse_json, read_json
from headrace.artifacts.storage import LocalStore, of_job, open_store
from headrace.entry import log_to_stderr, ready, task_folder, task_options
from headrace.errors import InputError
from headrace.images import image
from headrace.options import Options
from headrace.train import trainjob
from headrace.train.attendant import attend, terminal
from headrace.train.cluster import Cluster, Wanted
from headrace.train.node import FINDINGS, INPUTS, job_folder
from headrace.train.pods import Pods

log = logging.getLogger(__name__)

RESULTS = "train_results.json"


def run(
    values: Mapping[str, Any],
    output_root: str,
    *,
    job: str,
    num_nodes: int = 1,
    nproc_per_node: int = 0,
    pods: Mapping[str, Any] | None = None,
    manifest: Any,
    findings: Any,
    heldout: Any,
    duplicates: Any,
    model: Any,
    metrics: Any,
) -> None:
    """Train and fill kfp's artifacts. Without a store and a folder to keep, the model lies in its artifact.

    job: the pipeline run's id. An attempt of a job that failed for good is refused at once. On several nodes, or where
    the step's own pod is a launcher, a TrainJob of `pods` trains; nproc_per_node 0: the default.
    """
    wanted = Pods.parse(pods or {})
    values = {**values, "store": of_job(str(values.get("store") or ""), job)}
    given = {k: v for k, v in train_values(values, manifest.path, heldout.path, duplicates.path).items() if v != ""}
    given |= {"num_nodes": num_nodes} if num_nodes != 1 else {}
    given |= {"nproc_per_node": nproc_per_node} if nproc_per_node else {}
    options = task_options(given)
    artifact, store = Path(model.path), options.train.store
    if options.train.num_nodes > 1 or wanted.launcher:
        results = _on_nodes(given, options, wanted, job=job, findings=findings.path, artifact=artifact)
    else:
        if pods:
            _require_kept(store or output_root, wanted)
        kept = task_folder(output_root, "train") if output_root or store else nullcontext(artifact)
        with kept as folder:
            results = _here(given, folder, store, job=job, findings=findings.path, artifact=artifact)
    ref = CheckpointRef.read(artifact)
    model.metadata.update({"step": ref.step, "commit_hash": ref.commit_hash, "uri": ref.uri})
    for name, value in results.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            metrics.log_metric(name, value)


def _require_kept(place: str, pods: Pods) -> None:
    """InputError for a folder that is lost with this pod; none at all is the model's artifact, which kfp keeps."""
    store = open_store(place) if place else None
    if isinstance(store, LocalStore) and not pods.sees(os.path.normpath(store.folder)):
        raise InputError(
            f"the model would be kept in {place}, a folder of this pod's own, and lost with it",
            "name a bucket as the store (store=gs://…), or a folder on a claim that pods.volumes mounts",
        )


def _here(
    given: Mapping[str, Any], folder: Path, store: str | None, *, job: str, findings: str, artifact: Path
) -> dict[str, Any]:
    """Train in this pod, on as many processes as it has GPUs; `train_results.json`."""
    ready(folder)
    # A final model's commit vouches for its copy, so that one is left as it was.
    if not (folder / COMMIT).is_file():
        shutil.copyfile(findings, folder / FINDINGS)
    with terminal(open_store(store) if store else None, job):
        attend(given, folder)
    if folder != artifact:
        artifact.mkdir(parents=True, exist_ok=True)
        place = open_store(store).uri if store else str(folder.absolute())
        replace(CheckpointRef.read(folder), uri=place).write(artifact)
    return dict(read_json(folder / RESULTS))


def _on_nodes(
    given: Mapping[str, Any], options: Options, pods: Pods, *, job: str, findings: str, artifact: Path
) -> dict[str, Any]:
    """Train as a TrainJob, which leaves the model in the store; `train_results.json`."""
    if not options.train.store:
        raise InputError("a training on several nodes has no store", "name one that all pods see: store=gs://…")
    if not pods.launcher and pods.accelerators:
        log.warning(
            "this pod keeps its %d %s while the TrainJob trains: the pipeline was compiled for one node",
            pods.accelerators, pods.accelerator,
        )  # fmt: skip
    store = open_store(options.train.store)
    trainjob.require_common(store, pods)
    store.check_writable()
    log_to_stderr(options)
    cluster = Cluster(pods)
    inputs = {name: str(given[name]) for name in INPUTS if name in given}
    flags = {k: v for k, v in given.items() if k not in (*INPUTS, "num_nodes", "nproc_per_node")}
    wanted = Wanted(
        name=trainjob.name_of(job, store, flags), store=store.uri, nodes=options.train.num_nodes,
        processes=pods.processes(options.train.nproc_per_node),
        image=pods.image or os.environ.get("HEADRACE_IMAGE") or image("train"), run=job, pods=pods,
    )  # fmt: skip
    with terminal(store, job):
        trainjob.put(job_folder(store, wanted.name), flags, inputs, findings)
        trainjob.train(cluster, store, wanted)
    artifact.mkdir(parents=True, exist_ok=True)
    store.download_file(REFERENCE, artifact / REFERENCE)
    replace(CheckpointRef.read(artifact), uri=store.uri).write(artifact)
    return dict(parse_json(store.read(RESULTS), f"{store.uri}/{RESULTS}"))


def train_values(values: Mapping[str, Any], manifest: str, heldout: str, duplicates: str) -> dict[str, Any]:
    """The flags of the training in a pipeline, whose flags are meant for three steps."""
    # A bar's carriage returns leave the log of a pod without a line until the end.
    passed = {"disable_tqdm": True, **values, "manifest": manifest}
    if Path(heldout).stat().st_size:
        passed["heldout"] = heldout
    if Path(duplicates).stat().st_size:
        passed["duplicates"] = duplicates
    if not passed.get("do_eval") and str(passed.get("eval_strategy") or "no") == "no":
        # It bounded the slice that evaluate scores; alone it would be refused here.
        passed.pop("max_eval_samples", None)
    return passed
