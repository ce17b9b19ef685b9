"""The Kubeflow SDK's client: what of its errors is final, what is tried again, and how a TrainJob is made with it."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.errors import HeadraceError, InputError
from headrace.train.pods import Pods

if TYPE_CHECKING:
    from kubeflow.trainer import TrainerClient
    from kubeflow.trainer.types.types import TrainJob

log = logging.getLogger(__name__)
T = TypeVar("T")

OUTAGE_S = 600.0
"""How long the API, or the store, may be away before a launcher gives up waiting for it."""
WAIT_S = 5.0
ENTRY = "headrace-entrypoint"
RIGHTS = "the service account of the step needs the rights in examples/rbac.yaml"
RUN_LABEL = "headrace.run"
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_BUSY = (0, 408, 409, 429)


class Gone(Exception):
    """There is no TrainJob of that name."""


class Unreachable(HeadraceError):
    """The API was away for too long; what it runs goes on."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A TrainJob to be made."""

    name: str
    store: str
    nodes: int
    processes: int
    """A node."""
    image: str
    run: str
    """The pipeline run's id, for a label; may be empty."""
    pods: Pods


class Cluster:
    """One connection. Calls that a restart of the API may have cut off are tried again, for `outage_s` at most."""

    def __init__(self, pods: Pods, *, outage_s: float = OUTAGE_S, wait_s: float = WAIT_S) -> None:
        self._docker = pods.backend == "docker"
        self._outage_s, self._wait_s = outage_s, wait_s
        self._client = _connect(pods)

    def patiently(self, call: Callable[[], T], *, outage_s: float | None = None) -> T:
        """Its answer; InputError when it is refused for good, Unreachable when there is none within `outage_s`."""
        outage_s = self._outage_s if outage_s is None else outage_s
        end = time.monotonic() + outage_s
        while True:
            try:
                return call()
            except (Gone, InputError):
                raise
            except (HeadraceError, RuntimeError, TimeoutError, OSError) as error:
                final = _final(error)
                if final is not None:
                    raise final from error
                if time.monotonic() > end:
                    raise Unreachable(
                        f"no answer for {outage_s:.0f} s: {_told(error)}", "a retry goes on waiting for it"
                    ) from error
                log.warning("trying again in %.0f s: %s", self._wait_s, _told(error))
                time.sleep(self._wait_s)

    def require(self, runtime: str) -> None:
        """InputError unless the cluster has the runtime."""
        try:
            self.patiently(lambda: self._client.get_runtime(runtime))
        except (Gone, ValueError) as error:
            raise InputError(
                f"there is no training runtime called {runtime}",
                "install Kubeflow Trainer's runtimes, or name another in pods.runtime",
            ) from error

    def find(self, name: str) -> TrainJob:
        """The TrainJob, asked for once; Gone when there is none."""
        try:
            return self._client.get_job(name)
        except ValueError as error:  # of the container back end
            raise Gone(name) from error
        except RuntimeError as error:
            if _status(error) == 404 and str(error).startswith("Failed to get TrainJob"):
                raise Gone(name) from error
            if _status(error) == 404:  # the SDK asks for the runtime too, which may be away for a moment
                raise HeadraceError(f"TrainJob {name} cannot be looked at: {_told(error)}", "try again") from None
            raise

    def create(self, wanted: Wanted) -> bool:
        """Make the TrainJob; False when there is one of that name already, as after a lost reply."""
        from kubeflow.trainer.options import Name

        trainer, options = _for_docker(wanted) if self._docker else _for_kubernetes(wanted)

        def make() -> bool:
            try:
                self._client.train(runtime=wanted.pods.runtime, trainer=trainer, options=[Name(wanted.name), *options])
            except RuntimeError as error:
                if _status(error) != 409:
                    raise
                return False
            return True

        return self.patiently(make)

    def delete(self, name: str, *, outage_s: float | None = None) -> None:
        """Remove it and its pods, which get SIGTERM; none of that name is no error."""

        def remove() -> None:
            try:
                self._client.delete_job(name)
            except ValueError:
                return
            except RuntimeError as error:
                if _status(error) != 404:
                    raise

        self.patiently(remove, outage_s=outage_s)

    def remove(self, name: str) -> None:
        """Delete it, wait until it is gone, and say so: raises Gone."""
        self.delete(name)
        end = time.monotonic() + self._outage_s
        while time.monotonic() < end:
            self.patiently(lambda: self.find(name))
            time.sleep(self._wait_s)
        raise Unreachable(f"TrainJob {name} is still there {self._outage_s:.0f} s after it was deleted", "look why")

    def logs(self, name: str) -> Iterator[str]:
        """Lines of the first node, as they come."""
        for chunk in self._client.get_job_logs(name, follow=True):
            yield from chunk.splitlines()

    def own(self, name: str) -> None:
        """Let the TrainJob go with the workflow that the step's own pod belongs to, where that can be told.

        Not with the pod: the next attempt is another pod, and goes on with the same TrainJob.
        """
        pod = os.environ.get("KFP_POD_NAME")
        if self._docker or not pod:
            return
        from kubeflow.trainer.constants import constants as sdk

        backend: Any = self._client.backend
        try:
            found = backend.core_api.read_namespaced_pod(pod, backend.namespace).metadata.owner_references or []
            owners = [
                {"apiVersion": one.api_version, "kind": one.kind, "name": one.name, "uid": one.uid}
                for one in found
                if one.controller
            ]
            if owners:
                body = {"metadata": {"ownerReferences": owners}}
                place = (sdk.GROUP, sdk.VERSION, backend.namespace, sdk.TRAINJOB_PLURAL, name)
                backend.custom_api.patch_namespaced_custom_object(*place, body)
        except Exception as error:  # it costs nothing but tidiness
            log.warning("TrainJob %s stays when the workflow is deleted: %s", name, _told(error))


def _connect(pods: Pods) -> TrainerClient:
    try:
        from kubeflow.trainer import TrainerClient
        from kubeflow.trainer.backends.container.types import ContainerBackendConfig, TrainingRuntimeSource
    except ImportError as error:
        raise InputError(
            f"training on several nodes takes the Kubeflow SDK, which is not installed: {error}",
            "pip install 'headrace[nodes]'",
        ) from error
    if pods.backend == "docker":
        policy, sources = pods.image_pull_policy or "IfNotPresent", TrainingRuntimeSource(sources=[])
        try:
            return TrainerClient(
                ContainerBackendConfig(container_runtime="docker", pull_policy=policy, runtime_source=sources)
            )
        except RuntimeError as error:
            raise InputError(f"pods.backend is docker: {str(error).splitlines()[0]}", "start Docker") from error
    from kubernetes.config import ConfigException

    # It warns when it cannot read the version of Trainer, which nothing here depends on.
    logging.getLogger("kubeflow.trainer.backends.kubernetes.backend").setLevel(logging.ERROR)
    if pods.image_pull_policy:
        log.warning("pods.image_pull_policy is %s, but a TrainJob leaves it to its runtime", pods.image_pull_policy)
    try:
        return TrainerClient()
    except ConfigException as error:
        raise InputError(
            f"there is no Kubernetes cluster to make a TrainJob in: {error}",
            "run it as a step of a pipeline in the cluster, or set KUBECONFIG",
        ) from error


def _for_kubernetes(wanted: Wanted) -> tuple[Any, list[Any]]:
    from kubeflow.trainer import options as sdk
    from kubeflow.trainer.types.types import CustomTrainerContainer

    pods = wanted.pods
    trainer = CustomTrainerContainer(
        image=wanted.image, num_nodes=wanted.nodes, resources_per_node=pods.resources() or None, env=pods.env or None
    )
    # On the command line, because the runtime counts CPUs where there are no GPUs, and refuses PET_ variables.
    words = ["torchrun", "--nproc_per_node", str(wanted.processes), "-m", "headrace.train.node"]
    labels = {**pods.labels, **({RUN_LABEL: wanted.run} if _LABEL.fullmatch(wanted.run) else {})}
    patch = pods.patch()
    options = [
        sdk.TrainerCommand([ENTRY]),
        sdk.TrainerArgs([*words, wanted.store, wanted.name]),
        *([sdk.Labels(labels)] if labels else []),
        *([sdk.Annotations(pods.annotations)] if pods.annotations else []),
        *([sdk.ActiveDeadlineSeconds(pods.timeout_s)] if pods.timeout_s else []),
        *([patch] if patch else []),
    ]
    return trainer, options


def _for_docker(wanted: Wanted) -> tuple[Any, list[Any]]:
    from kubeflow.trainer.types.types import CustomTrainer

    pods = wanted.pods
    unknown = [n for n in ("volumes", "secrets", "secret_files", "shm") if getattr(pods, n)]
    if unknown:
        raise InputError(f"pods.backend is docker, which knows no pods.{unknown[0]}", "leave it out")
    # This back end takes functions alone, whose source it sends, and the number of GPUs for that of processes.
    trainer = CustomTrainer(
        func=_on_node, func_args={"store": wanted.store, "name": wanted.name}, image=wanted.image,
        num_nodes=wanted.nodes, resources_per_node={"gpu": wanted.processes}, env=pods.env or None,
    )  # fmt: skip
    return trainer, []


def _on_node(store: str, name: str) -> None:
    from headrace.entry import leave
    from headrace.train.node import main

    leave(main([store, name]))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an error of the SDK, which wraps the client's own."""
    found = (getattr(cause, "status", None) for cause in _causes(error))
    return next((status for status in found if isinstance(status, int)), None)


def _final(error: Exception) -> Exception | None:
    """What to raise in its place when no retry can mend it; None when one may."""
    status = _status(error)
    if status == 404:
        return Gone(str(error))
    if status in (401, 403):
        return InputError(f"the Kubernetes API refuses: {_told(error)}", RIGHTS)
    if status is not None and 400 <= status < 500 and status not in _BUSY:
        return InputError(f"the Kubernetes API refuses: {_told(error)}", "mend the pods parameter, or the flags")
    return None


def _told(error: Exception) -> str:
    """One line: what the SDK was doing and what the API, or the system, said to it."""
    last = list(_causes(error))[-1]
    body = getattr(last, "body", None)
    try:
        said = json.loads(body)["message"] if body else str(last)
    except (ValueError, KeyError, TypeError):
        said = f"HTTP {getattr(last, 'status', '')} {getattr(last, 'reason', '')}".strip()
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return first if last is error and not body else f"{first}: {' '.join(said.split())}"
