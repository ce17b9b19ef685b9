from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.wandb_server import ServedRun, WandbServer

KEY = "0123456789abcdef0123456789abcdef01234567"
RUN = "mill-1234"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "WANDB_DATA_DIR", "WANDB_DISABLED", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A server that knows the key of this environment."""
    with WandbServer() as started:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", started.url)
        yield started


def trained(run: ServedRun) -> list[int]:
    """The training step of each row that a training has logged, in W&B's order, which takes none twice."""
    assert run.steps == sorted(set(run.steps))
    return [row["train/global_step"] for row in run.history if "train/loss" in row]


def scored(run: ServedRun) -> list[tuple[int, str, float]]:
    """Training step, version and loss of each evaluation."""
    rows = [row for row in run.history if "eval/eval_loss" in row]
    return [(row["train/global_step"], row["version"], row["eval/eval_loss"]) for row in rows]
