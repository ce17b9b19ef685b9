"""What tests of the commands against a back end share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace_pipelines import runs
from headrace_pipelines.__main__ import main

SETTINGS = (
    "HEADRACE_KFP_HOST", "HEADRACE_KFP_TOKEN", "HEADRACE_KFP_COOKIES", "KF_PIPELINES_ENDPOINT",
    "KF_PIPELINES_UI_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH", "KF_PIPELINES_DEFAULT_EXPERIMENT_NAME",
    "KF_PIPELINES_OVERRIDE_EXPERIMENT_NAME", "KUBERNETES_SERVICE_HOST", "KUBECONFIG",
)  # fmt: skip


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No host, token, context or kubeconfig of whoever runs the tests; and hardly any waiting."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    # Where it lies is settled when kfp is imported.
    monkeypatch.setattr("kfp.client.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    monkeypatch.setattr(runs, "LOOKS_S", (0.0, 0.01, 0.01))
    yield


@pytest.fixture
def error_of(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs a command that must fail: its exit code and the error, with its remedy, that stderr ends with."""

    def run(*argv: str) -> tuple[int, str]:
        code = main(argv)
        said = capsys.readouterr().err
        lines = said.splitlines()
        assert [line.startswith("headrace: error: ") for line in lines[-2:]] == [True, False], said
        assert "Traceback" not in said
        return code, said

    return run
