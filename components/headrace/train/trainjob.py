"""Training on several nodes: the step makes a Kubeflow TrainJob, waits for it, and takes up the same one when retried.

The TrainJob's name follows from the pipeline run, the store and the flags, so an attempt finds what an earlier one
made. It is deleted when the step is asked to stop or fails for a reason of its own; a launcher that is killed leaves
it, and the next attempt goes on waiting for it.
"""

from __future__ import annotations

import hashlib
import logging
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.artifacts.checkpoint import COMMIT, REFERENCE
from headrace.artifacts.files import canonical_json, parse_json
from headrace.artifacts.outcome import OUTCOME
from headrace.artifacts.storage import LocalStore, Store
from headrace.errors import EXIT_INPUT, HeadraceError, InputError, Preempted
from headrace.train.cluster import Cluster, Gone, Unreachable, Wanted
from headrace.train.ended import KINDS
from headrace.train.node import FINDINGS, FLAGS, job_folder
from headrace.train.pods import Pods
from headrace.train.preemption import AGAIN, SIGNALS

if TYPE_CHECKING:
    from kubeflow.trainer.types.types import TrainJob

log = logging.getLogger(__name__)

COMPLETE, FAILED = "Complete", "Failed"
"""What the SDK says of a TrainJob that has ended."""
DELETED, REFUSED, EXPIRED = "deleted", "refused", "expired"
"""What else ends the waiting: it is not there any more; rank 0 said that no retry helps; pods.timeout_s is over."""
POLL_S = 5.0
CANCEL_S = 20.0
"""What a step that was asked to stop may take to delete its TrainJob."""
LAST_WORD_S = 60.0
"""How long after a failure rank 0 may still be writing why."""
_COMMITTED = re.compile(r"checkpoint-(\d+)/" + re.escape(COMMIT))


def require_common(store: Store, pods: Pods) -> None:
    """InputError unless all pods see the store."""
    if isinstance(store, LocalStore) and not pods.sees(str(store.folder)):
        raise InputError(
            f"the store is {store.uri}, which the pods of a TrainJob do not share",
            "name a bucket (gs://…) as the store, or a folder on a claim that pods.volumes mounts",
        )


def name_of(run: str, store: Store, flags: Mapping[str, Any]) -> str:
    """The TrainJob's name: the same for every attempt of a task of a pipeline run."""
    digest = hashlib.sha256(canonical_json([run, store.uri, dict(flags)])).hexdigest()
    return f"headrace-train-{digest[:12]}"


def put(folder: Store, flags: Mapping[str, Any], inputs: Mapping[str, str], findings: str) -> None:
    """Leave what the pods need in the job's folder; inputs: files by the flag that names them."""
    for name, path in inputs.items():
        folder.upload_file(Path(path), name)
    folder.upload_file(Path(findings), FINDINGS)
    folder.write(FLAGS, canonical_json({**flags, **{name: name for name in inputs}}))


def train(cluster: Cluster, store: Store, wanted: Wanted) -> None:
    """Have the TrainJob train, however many are needed; raises what rank 0 ended with.

    When the pods were preempted for good, another TrainJob goes on, as long as each commits something.
    """
    folder = job_folder(store, wanted.name)
    cluster.require(wanted.pods.runtime)
    newest = _newest(store)
    while True:
        state = _attend(cluster, store, folder, wanted)
        if state == COMPLETE:
            return
        error = _error(cluster, folder, wanted, state)
        step = _newest(store)
        if not isinstance(error, Preempted) or step == newest:
            raise error
        newest = step
        log.warning("TrainJob %s was preempted; another goes on from step %s", wanted.name, step)


def _newest(store: Store) -> int | None:
    steps = (int(m[1]) for name in store.names("checkpoint-") if (m := _COMMITTED.fullmatch(name)))
    return max(steps, default=None)


class _Stopped(BaseException):
    """Raised by a signal; no Exception, which the SDK would take for a failed call."""


def _attend(cluster: Cluster, store: Store, folder: Store, wanted: Wanted) -> str:
    """Make the TrainJob, or take up the one that is there, and wait for its end; how it ended."""
    with _asked_to_stop():
        try:
            while True:
                made = _take(cluster, store, folder, wanted)
                state = _wait(cluster, folder, wanted)
                if state != DELETED or made:
                    break
                log.info("TrainJob %s was being deleted; it is made anew", wanted.name)
            if state == REFUSED:
                cluster.delete(wanted.name)  # Kubernetes would start the pods again, to the same end
            return state
        except Unreachable:
            log.warning("TrainJob %s is left as it is", wanted.name)
            raise
        except _Stopped as stopped:
            _cancel(cluster, wanted.name)
            raise Preempted(f"stopped by {stopped}; TrainJob {wanted.name} is deleted", AGAIN) from None
        except BaseException:
            _cancel(cluster, wanted.name)
            raise


@contextmanager
def _asked_to_stop() -> Iterator[None]:
    def stop(number: int, _: object) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise _Stopped(signal.Signals(number).name)

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop) for number in SIGNALS} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _cancel(cluster: Cluster, name: str) -> None:
    try:
        cluster.delete(name, outage_s=CANCEL_S)
    except HeadraceError as error:
        log.warning("TrainJob %s goes on: %s; kubectl delete trainjob %s ends it", name, error.message, name)


def _take(cluster: Cluster, store: Store, folder: Store, wanted: Wanted) -> bool:
    """Have a TrainJob of that name; whether it was made now."""
    name = wanted.name
    try:
        job = cluster.patiently(lambda: cluster.find(name))
        if job.status != FAILED and (job.status != COMPLETE or store.exists(REFERENCE)):
            log.info("going on with TrainJob %s, which is %s", name, job.status)
            cluster.own(name)  # whoever made it may have been killed before that
            return False
        log.info("TrainJob %s of an earlier attempt is %s; it is replaced", name, job.status)
        cluster.remove(name)
    except Gone:
        pass
    folder.delete(OUTCOME)
    made = cluster.create(wanted)
    cluster.own(name)
    log.info("%s TrainJob %s: %d node(s) of %d process(es)", "made" if made else "going on with", name,
             wanted.nodes, wanted.processes)  # fmt: skip
    return made


def _wait(cluster: Cluster, folder: Store, wanted: Wanted) -> str:
    """Show the state and the log until the TrainJob has ended; how."""
    name, shown, failed_at = wanted.name, "", None
    with Logs(cluster, name) as logs:
        while True:
            try:
                job = cluster.patiently(lambda: cluster.find(name))
            except Gone:
                return DELETED
            state = ", ".join([job.status, *(f"{step.name} {step.status}" for step in job.steps)])
            if state != shown:
                log.info("TrainJob %s: %s", name, state)
                shown = state
            if job.steps:
                logs.start()
            code = cluster.patiently(lambda: _outcome(folder)).get("code")
            if job.status == COMPLETE:
                return COMPLETE
            if job.status == FAILED:
                if _expired(job, wanted):
                    return EXPIRED
                failed_at = failed_at or time.monotonic()
                running = any(step.status == "Running" for step in job.steps)
                if code is not None or not running or time.monotonic() - failed_at > LAST_WORD_S:
                    return FAILED
            elif code == EXIT_INPUT:
                return REFUSED
            time.sleep(POLL_S)


def _expired(job: TrainJob, wanted: Wanted) -> bool:
    limit_s = wanted.pods.timeout_s
    return 0 < limit_s <= (datetime.now(UTC) - job.creation_timestamp).total_seconds()


def _outcome(folder: Store) -> dict[str, Any]:
    """What rank 0 left; empty as long as there is nothing."""
    if not folder.exists(OUTCOME):
        return {}
    return dict(parse_json(folder.read(OUTCOME), f"{folder.uri}/{OUTCOME}"))


def _error(cluster: Cluster, folder: Store, wanted: Wanted, state: str) -> HeadraceError:
    name = wanted.name
    if state == DELETED:
        return HeadraceError(
            f"TrainJob {name} was deleted while it trained", "a retry makes it anew, and goes on from the newest commit"
        )
    if state == EXPIRED:
        return InputError(
            f"TrainJob {name} had not ended after {wanted.pods.timeout_s} s, as pods.timeout_s allows",
            "raise it and submit anew: the store holds what was committed",
        )
    outcome = cluster.patiently(lambda: _outcome(folder))
    if not outcome.get("code"):
        return HeadraceError(
            f"TrainJob {name} failed, and rank 0 left no word of why",
            f"its log is above; kubectl describe trainjob {name} and its pods say more",
        )
    return KINDS.get(outcome["code"], HeadraceError)(str(outcome["error"]), str(outcome["remedy"]))


class Logs:
    """Shows the log of the first node on stdout while the TrainJob runs, each line once."""

    AGAIN_S = 5.0
    DRAIN_S = 10.0

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster, self._name = cluster, name
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._first, self._shown = "", 0

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(self.DRAIN_S)

    def start(self) -> None:
        """From now on; again is no error."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="headrace-trainjob-log")
            self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                for index, line in enumerate(self._cluster.logs(self._name)):
                    self._show(index, line)
            except Exception as error:  # the waiting itself tells whether anything is wrong
                log.debug("the log of %s was cut off: %s", self._name, error)
            if self._ended.wait(self.AGAIN_S):
                return

    def _show(self, index: int, line: str) -> None:
        """A log that is read anew begins with lines that were shown, unless the container was started anew."""
        if index == 0 and line != self._first:
            self._first, self._shown = line, 0
        if index >= self._shown:
            print(line, flush=True)
            self._shown = index + 1
