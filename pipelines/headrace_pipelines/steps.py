"""A run as the tasks of its DAG, from what the API tells of it; pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNKNOWN = "RUNTIME_STATE_UNSPECIFIED"
DRIVER = "-driver"
REFUSE = "refuse"
EPOCH_YEAR = 1970
"""A time that the back end does not know comes as the start of an epoch: 1970, or the year 1."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A task of the DAG. depth: 0 for a task of the pipeline itself. inner: it holds other tasks, as a condition does.

    state: "" when nothing is known of it: not started, or left out. seconds: how long it has run, None before that.
    """

    task: str
    name: str
    depth: int = 0
    inner: bool = False
    state: str = ""
    seconds: float | None = None
    error: str = ""


def steps(spec: Mapping[str, Any] | None, details: Sequence[Any], now: datetime.datetime) -> tuple[Step, ...]:
    """The tasks of a pipeline in the order of the DAG, each with what the run's task details say of it.

    spec: the pipeline's; without it the tasks are those that have started, as far as they can be told from kfp's own.
    """
    found: dict[str, Any] = {}
    for detail in sorted(details, key=lambda d: _known(d.start_time) or now):  # a retry comes after what it repeats
        found[detail.display_name or ""] = detail
    tasks = list(_tasks(spec)) if spec else [Step(task=name, name=name) for name in found if not _internal(name)]
    return tuple(_filled(step, found, now) for step in tasks)


def failed(shown: Sequence[Step]) -> list[Step]:
    """The tasks that failed by themselves, not those around them."""
    return [step for step in shown if step.state == "FAILED" and not step.inner]


def refused(shown: Sequence[Step]) -> bool:
    """Say whether a no-go or a gate ended the run, and nothing else."""
    names = [step.task for step in failed(shown)]
    return bool(names) and all(name == REFUSE or name.startswith(f"{REFUSE}-") for name in names)


def _tasks(spec: Mapping[str, Any]) -> Iterator[Step]:
    spec = spec.get("pipeline_spec", spec)  # with a platform's part beside it, a package is one level deeper
    components = spec.get("components", {})

    def below(dag: Mapping[str, Any], depth: int) -> Iterator[Step]:
        for key in _in_order(dag["tasks"]):
            task = dag["tasks"][key]
            inner = components.get(task["componentRef"]["name"], {}).get("dag")
            yield Step(task=key, name=task["taskInfo"]["name"], depth=depth, inner=inner is not None)
            if inner is not None:
                yield from below(inner, depth + 1)

    yield from below(spec["root"]["dag"], 0)


def _in_order(tasks: Mapping[str, Any]) -> Iterator[str]:
    """Names of tasks, each after those it waits for."""
    left = sorted(tasks)
    done: set[str] = set()
    while left:
        ready = next((n for n in left if done.issuperset(tasks[n].get("dependentTasks", ()))), left[0])
        left.remove(ready)
        done.add(ready)
        yield ready


def _filled(step: Step, found: Mapping[str, Any], now: datetime.datetime) -> Step:
    own, driver = found.get(step.task), found.get(step.task + DRIVER)
    state = _state(own)
    if not state and driver is not None:
        # kfp's driver goes before each task: what it fails at, the task will never get to.
        state = {"FAILED": "FAILED", "CANCELED": "CANCELED"}.get(_state(driver), "PENDING" if own is None else "")
    start, end = (_known(own.start_time), _known(own.end_time)) if own is not None else (None, None)
    seconds = None if start is None else max(((end or now) - start).total_seconds(), 0.0)
    return Step(
        task=step.task, name=step.name, depth=step.depth, inner=step.inner, state=state, seconds=seconds,
        error=_error(own) or _error(driver),
    )  # fmt: skip


def _state(detail: Any) -> str:
    state = "" if detail is None else str(detail.state or "")
    return "" if state == UNKNOWN else state


def _error(detail: Any) -> str:
    if detail is None:
        return ""
    told = [detail.error, *(status.error for status in reversed(detail.state_history or ()))]
    return next((" ".join(error.message.split()) for error in told if error is not None and error.message), "")


def _known(time: datetime.datetime | None) -> datetime.datetime | None:
    return time if time is not None and time.year > EPOCH_YEAR else None


def _internal(name: str) -> bool:
    """Say whether a task is one that kfp adds: a driver, the root, or the pod inside a task."""
    return name in ("", "root", "executor") or name.endswith(DRIVER) or name.startswith(("executor(", "exit-hook-"))
