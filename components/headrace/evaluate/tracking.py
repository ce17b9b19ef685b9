"""The run, recorded with Weights & Biases: on disk always, sent when there is a key; no fault of it fails a step."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

SYNC_S = 60.0
"""How long sending may take; what is not sent stays on disk, for `wandb sync`."""


def track(
    output_dir: Path,
    *,
    project: str,
    name: str,
    config: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    sync_s: float = SYNC_S,
) -> Path | None:
    """Record a run and send it if WANDB_API_KEY is set; its folder, or None when there is none.

    history: training's log, a mapping a logged step. No model and no file is uploaded.
    """
    if os.environ.get("WANDB_MODE") == "disabled" or os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1"):
        return None
    try:
        folder = _record(output_dir, project, name, config, history, metrics)
    except Exception as error:  # whatever a tracker does, the model is scored and published
        log.warning("Weights & Biases did not record the run: %s: %s", type(error).__name__, error)
        return None
    if os.environ.get("WANDB_API_KEY"):
        sync(folder, sync_s)
    return folder


def _record(
    output_dir: Path,
    project: str,
    name: str,
    config: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
) -> Path:
    import wandb

    # Offline even with a key: an unreachable server then costs the time of `sync` and no data.
    settings = wandb.Settings(
        mode="offline", silent=True, console="off", disable_git=True, save_code=False, init_timeout=30,
        x_disable_stats=True, x_disable_meta=True, x_save_requirements=False,
    )  # fmt: skip
    with _data_folder(output_dir):
        try:
            run = wandb.init(
                project=project, name=name, job_type="evaluate", config=dict(config), settings=settings,
                dir=os.environ.get("WANDB_DIR") or str(output_dir),
            )  # fmt: skip
            with run:  # ends the run, as failed when something is raised
                folder = Path(str(run.settings.sync_dir))
                last = 0
                for entry in history:
                    last = int(entry.get("step", last))
                    run.log({f"train/{k}": v for k, v in entry.items() if k != "step"}, step=last)
                run.log({f"eval/{k}": v for k, v in metrics.items()}, step=last + 1 if history else 0)
        finally:
            wandb.teardown()  # or the next run of this process is given this one's identity and folder
    return folder


@contextmanager
def _data_folder(output_dir: Path) -> Iterator[None]:
    """WANDB_DATA_DIR below the output where the user set none: there is no argument for it."""
    ours = not os.environ.get("WANDB_DATA_DIR")
    if ours:
        os.environ["WANDB_DATA_DIR"] = str(output_dir)
    try:
        yield
    finally:
        if ours:
            del os.environ["WANDB_DATA_DIR"]


def sync(folder: Path, timeout_s: float = SYNC_S) -> bool:
    """Send a recorded run in a process of its own, ended after `timeout_s`; whether it was sent."""
    command = [sys.executable, "-m", "wandb", "sync", str(folder.absolute())]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, cwd=folder.parent,  # it leaves a log of its own where it is started
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=timeout_s)
        reason = _last_line(said)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # it has children, which hold the pipe open
        process.communicate()
        reason = f"not done within {timeout_s:g} s"
    # Its exit code is 0 also when the server refused: the marker it leaves is the only sign that all arrived.
    if any(folder.glob("*.wandb.synced")):
        return True
    log.warning("Weights & Biases did not get the run (%s); to send it later: wandb sync %s", reason, folder)
    return False


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    key = os.environ.get("WANDB_API_KEY") or ""
    last = lines[-1] if lines else "no output"
    return last.replace(key, "…") if key else last
