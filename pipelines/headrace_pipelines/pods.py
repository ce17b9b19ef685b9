"""What a run has on Kubernetes, pods with their logs and TrainJobs, through Kubernetes' own client."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml

from headrace.errors import HeadraceError, InputError
from headrace_pipelines.asking import CONNECT_S, REPLY_S
from headrace_pipelines.connection import Connection

T = TypeVar("T")
RUN_LABEL = "pipeline/runid"
TRAIN_JOBS, TRAIN_LABEL = ("trainer.kubeflow.org", "v1alpha1", "trainjobs"), "headrace.run"
NODE = "workflows.argoproj.io/node-name"
CONTAINER, NAMESPACE = "main", "kubeflow"
AGAIN_S = 1.0
_EXECUTOR = re.compile(r"\.([^.]+)\.executor(\(\d+\))?$")
"""A task's own pod, the last of `WORKFLOW.root.…TASK.executor`; a retry has its number behind it."""


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A try at a step. started: its log can be read."""

    name: str
    step: str
    started: bool


def namespace_of(connection: Connection, run: Any) -> str:
    """Where the pods of a run are: the namespace of its experiment, where there are several users."""
    if connection.namespace:
        return connection.namespace
    experiment = connection.ask(lambda: connection.client.get_experiment(run.experiment_id))
    return str(experiment.namespace or NAMESPACE)


class Pods:
    """The pods of one run; InputError when no Kubernetes is configured or it refuses, HeadraceError when it is away."""

    def __init__(self, namespace: str, run_id: str) -> None:
        from kubernetes import client, config

        self.namespace, self._run_id = namespace, run_id
        try:
            config.load_incluster_config()
        except config.ConfigException:
            try:
                config.load_kube_config(os.environ.get("KUBECONFIG"))
            except (config.ConfigException, OSError, yaml.YAMLError) as error:
                raise InputError(
                    f"no Kubernetes is configured: {_line(error)}",
                    "the back end's API has no pods: set KUBECONFIG, or run this in a pod; or look at the run's page",
                ) from None
        settings = client.Configuration.get_default_copy()
        settings.retries = False  # urllib3's own come at once, each with a warning
        self._api, self._host = client.CoreV1Api(client.ApiClient(settings)), settings.host
        self._custom = client.CustomObjectsApi(self._api.api_client)

    def of(self, step: str | None) -> list[Pod]:
        """The pods of a step, or of all of them, the oldest first. kfp's own pods are left out."""
        found = self._ask(
            lambda: self._api.list_namespaced_pod(
                self.namespace, label_selector=f"{RUN_LABEL}={self._run_id}", _request_timeout=(CONNECT_S, REPLY_S)
            )
        )
        pods = []
        for item in sorted(found.items, key=lambda p: p.metadata.creation_timestamp):
            node = _EXECUTOR.search((item.metadata.annotations or {}).get(NODE, ""))
            if node is not None and step in (None, node[1]):
                started = item.status.phase not in (None, "Pending")
                pods.append(Pod(name=item.metadata.name, step=node[1], started=started))
        return pods

    def delete_train_jobs(self) -> list[str]:
        """Remove the run's TrainJobs, whose pods then get SIGTERM; their names."""
        there = (*TRAIN_JOBS[:2], self.namespace, TRAIN_JOBS[2])
        right = "list and delete trainjobs"
        wait = {"_request_timeout": (CONNECT_S, REPLY_S)}
        found = self._ask(
            lambda: self._custom.list_namespaced_custom_object(
                *there, label_selector=f"{TRAIN_LABEL}={self._run_id}", **wait
            ),
            right,
        )
        names = [str(item["metadata"]["name"]) for item in found["items"]]
        for name in names:
            self._ask(functools.partial(self._custom.delete_namespaced_custom_object, *there, name, **wait), right)
        return names

    def lines(self, pod: Pod, *, follow: bool, patience_s: float = 0.0) -> Generator[str, None, None]:
        """The log of a pod, with `follow` until its end; what is cut off is read on, with no line twice.

        HeadraceError when it stays cut off for `patience_s`.
        """
        last, since = "", time.monotonic()
        while True:
            try:
                with contextlib.closing(self._open(pod, follow)) as reply:
                    for stamp, line in _stamped(reply):
                        if stamp > last:
                            last, since = stamp, time.monotonic()
                            yield line
                return
            except InputError:
                raise
            except HeadraceError:
                if not follow or time.monotonic() - since + AGAIN_S > patience_s:
                    raise
            time.sleep(AGAIN_S)

    def _open(self, pod: Pod, follow: bool) -> Any:
        return self._ask(
            lambda: self._api.read_namespaced_pod_log(
                pod.name, self.namespace, container=CONTAINER, follow=follow, timestamps=True,
                _preload_content=False, _request_timeout=(CONNECT_S, None if follow else REPLY_S),
            )
        )  # fmt: skip

    def _ask(self, call: Callable[[], T], right: str = "list pods and get pods/log") -> T:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return call()
        except ApiException as error:
            kind = InputError if error.status in (401, 403) else HeadraceError  # 400: its container does not run yet
            raise kind(
                f"Kubernetes at {self._host} refused ({error.status}): {_line(error.reason)}",
                f"this needs the right to {right} in the namespace {self.namespace}",
            ) from None
        except (HTTPError, OSError) as error:
            raise _away(self._host, error) from None


def _stamped(reply: Any) -> Generator[tuple[str, str], None, None]:
    """Time and text of each line of a log, as they come."""
    from urllib3.exceptions import HTTPError

    rest = b""
    try:
        for part in reply.stream(2**16):
            *whole, rest = (rest + part).split(b"\n")
            for line in whole:
                stamp, _, text = line.decode("utf-8", "replace").partition(" ")
                yield stamp, text
    except (HTTPError, OSError) as error:
        raise _away("the pod's log", error) from None
    if rest:
        stamp, _, text = rest.decode("utf-8", "replace").partition(" ")
        yield stamp, text


def _away(place: str, error: Exception) -> HeadraceError:
    return HeadraceError(
        f"cannot reach Kubernetes at {place}: {_line(error)}", "check KUBECONFIG and the network, then try again"
    )


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200]
