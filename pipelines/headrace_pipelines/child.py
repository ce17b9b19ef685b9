"""The process in which kfp runs the DAG for `headrace run`: `python -m headrace_pipelines.child RUN_FOLDER RUNNER`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from headrace_pipelines import containers
from headrace_pipelines.local import DOCKER, TERM_GRACE_S, read_parameters


def main(folder: Path, kind: str) -> None:
    """Run the DAG with kfp's subprocess or Docker runner, its own files below `kfp`."""
    signal.signal(signal.SIGTERM, _stop_containers(folder) if kind == DOCKER else _stop_between_steps)
    _end_with_parent()
    from kfp import local

    from headrace_pipelines.pipeline import make_pipeline

    root, parameters = folder.absolute() / "kfp", read_parameters(folder)
    root.mkdir()
    runner = (
        containers.runner(folder.absolute(), parameters) if kind == DOCKER else local.SubprocessRunner(use_venv=False)
    )
    local.init(runner, pipeline_root=str(root))
    make_pipeline()(**parameters)


def _stop_between_steps(number: int, _frame: object) -> None:
    """End now if no step runs. A step had the signal too: it may commit, and print, before kfp sees it end."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        raise SystemExit(128 + number) from None


def _stop_containers(folder: Path) -> Callable[[int, object], None]:
    """A handler that ends the run's containers, which no signal to this group reaches, and then this process."""

    def stop(number: int, _frame: object) -> None:
        containers.stop(folder.absolute())
        raise SystemExit(128 + number)

    return stop


def _end_with_parent() -> None:
    """End this process group once standard input does: `headrace run` holds its other end for as long as it lives."""
    lifeline = os.dup(sys.stdin.fileno())
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, sys.stdin.fileno())  # the steps inherit this, not the lifeline
    os.close(null)

    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        os.killpg(0, signal.SIGTERM)
        time.sleep(TERM_GRACE_S)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="lifeline").start()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
