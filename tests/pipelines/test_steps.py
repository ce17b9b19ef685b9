"""A run as the tasks of its DAG."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp_server_api import GoogleRpcStatus, V2beta1PipelineTaskDetail, V2beta1RuntimeStatus

from headrace_pipelines.compiling import compile_package
from headrace_pipelines.steps import failed, refused, steps

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
NEVER = datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)


def detail(name: str, state: str, start_s: float = 60, end_s: float | None = None, **more: Any) -> Any:
    """A task's detail that started so many seconds ago, and ended."""
    end = NEVER if end_s is None else NOW - datetime.timedelta(seconds=end_s)
    start = NOW - datetime.timedelta(seconds=start_s)
    return V2beta1PipelineTaskDetail(display_name=name, state=state, start_time=start, end_time=end, **more)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("package") / "p.yaml"
    compile_package(path, {})
    return next(yaml.safe_load_all(Path(path).read_text()))


def test_the_tasks_are_those_of_the_pipeline_in_its_order(spec: dict[str, Any]) -> None:
    shown = steps(spec, [], NOW)
    leaves = [step.task for step in shown if not step.inner]
    assert leaves.index("validate") < leaves.index("train") < leaves.index("evaluate") and "refuse" in leaves
    depths = {step.name: step.depth for step in shown}
    assert depths["train"] == depths["go"] + 1 and depths["go"] > depths["validate"]
    assert not any(step.state or step.seconds for step in shown)
    assert steps({"pipeline_spec": spec, "platform_spec": {}}, [], NOW) == shown


def test_states_and_times(spec: dict[str, Any]) -> None:
    details = [
        detail("headrace-x1", "RUNNING"), detail("root", "RUNNING"), detail("root-driver", "SUCCEEDED"),
        detail("validate-driver", "SUCCEEDED", 60, 50), detail("validate", "SUCCEEDED", 50, 20),
        detail("executor", "SUCCEEDED", 50, 20), detail("train-driver", "RUNNING", 10),
        detail("evaluate", "RUNTIME_STATE_UNSPECIFIED", 0),
    ]  # fmt: skip
    shown = {step.name: step for step in steps(spec, details, NOW)}
    assert (shown["validate"].state, shown["validate"].seconds) == ("SUCCEEDED", 30)
    assert (shown["train"].state, shown["train"].seconds) == ("PENDING", None)
    assert shown["evaluate"].state == ""
    later = {s.name: s for s in steps(spec, [*details, detail("train", "RUNNING", 5)], NOW)}
    assert (later["train"].state, later["train"].seconds) == ("RUNNING", 5)


def test_a_retry_counts_for_what_it_repeats(spec: dict[str, Any]) -> None:
    details = [detail("train", "RUNNING", 5), detail("train", "FAILED", 60, 30)]
    assert {s.name: s for s in steps(spec, details, NOW)}["train"].state == "RUNNING"


def test_what_failed_is_the_task_itself_with_its_error(spec: dict[str, Any]) -> None:
    why = GoogleRpcStatus(message="OOMKilled\n(137)")
    shown = steps(spec, [detail("train", "FAILED", 60, 1, error=why), detail("condition-3", "FAILED")], NOW)
    (step,) = failed(shown)
    assert (step.name, step.error) == ("train", "OOMKilled (137)") and not refused(shown)
    history = [V2beta1RuntimeStatus(state="RUNNING"), V2beta1RuntimeStatus(state="FAILED", error=why)]
    (step,) = failed(steps(spec, [detail("train", "FAILED", state_history=history)], NOW))
    assert step.error == "OOMKilled (137)"
    (step,) = failed(steps(spec, [detail("train-driver", "FAILED", error=why)], NOW))
    assert (step.name, step.error) == ("train", "OOMKilled (137)")


def test_a_refusal_is_one_only_if_nothing_else_failed(spec: dict[str, Any]) -> None:
    assert refused(steps(spec, [detail("refuse", "FAILED"), detail("condition-2", "FAILED")], NOW))
    assert refused(steps(None, [detail("refuse-2", "FAILED")], NOW))
    assert not refused(steps(spec, [detail("refuse", "FAILED"), detail("train", "FAILED")], NOW))
    assert not refused(steps(spec, [], NOW))


def test_without_the_pipeline_kfps_own_tasks_are_left_out() -> None:
    names = ["root", "root-driver", "validate-driver", "validate", "executor", "executor(0)", "train"]
    shown = steps(None, [detail(name, "RUNNING", 60 - at) for at, name in enumerate(names)], NOW)
    assert [step.name for step in shown] == ["validate", "train"]
