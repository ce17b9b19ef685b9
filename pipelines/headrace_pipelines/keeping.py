"""Where a run on a cluster keeps what it makes: in no pod alone, with which it would be lost."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from typing import Any

from headrace.artifacts.storage import LocalStore, open_store
from headrace.errors import InputError
from headrace.train.pods import Pods
from headrace_pipelines.cluster import VERTEX, Cluster

KEPT = ("store", "publish")
VERTEX_BUCKETS = "/gcs"
"""The folder in which Vertex AI shows each step the buckets that its account may read."""


def check_kept(values: Mapping[str, Any], cluster: Cluster, target: str) -> None:
    """InputError for a --store or --publish that train and evaluate do not both see once a pod is gone."""
    for name in KEPT:
        place = str(values.get(name) or "")
        if place and not _outlives(place, cluster, target):
            means = f"a folder below {VERTEX_BUCKETS}" if target == VERTEX else (
                "a folder on a volume that the cluster file gives to train and evaluate alike (--cluster)"
            )  # fmt: skip
            raise InputError(
                f"--{name} is {place}, which on a cluster is a folder of each pod's own: what is kept there is lost "
                "with the pod",
                f"name a bucket (gs://…), or {means}",
            )


def check_store(values: Mapping[str, Any]) -> None:
    """InputError for several nodes without a store, through which alone they and the step have files in common."""
    nodes = values.get("num_nodes") or 1
    if nodes > 1 and not values.get("store"):
        raise InputError(
            f"--num_nodes is {nodes}, and there is no --store", "name one that all pods see: --store gs://…"
        )


def _outlives(place: str, cluster: Cluster, target: str) -> bool:
    store = open_store(place)
    if not isinstance(store, LocalStore):
        return True
    if not ("://" in place or place.startswith("/")):
        return False  # it depends on where the process stands, here as in the pod
    folder = os.path.normpath(store.folder)
    if target == VERTEX:
        return Pods(volumes=[{"path": VERTEX_BUCKETS}]).sees(folder)
    train, evaluate = cluster["train"].volumes, cluster["evaluate"].volumes
    return Pods(volumes=[v.model_dump() for v in train if v in evaluate]).sees(folder)
