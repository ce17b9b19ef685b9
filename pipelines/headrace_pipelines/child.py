"""The process in which kfp runs the DAG for `headrace run`: `python -m headrace_pipelines.child RUN_FOLDER`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from headrace_pipelines.local import TERM_GRACE_S, read_parameters


def main(folder: Path) -> None:
    """Run the DAG with kfp's subprocess runner, its own files below `kfp`."""
    signal.signal(signal.SIGTERM, _stop_between_steps)
    _end_with_parent()
    from kfp import local

    from headrace_pipelines.pipeline import pipeline

    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder.absolute() / "kfp"))
    pipeline(**read_parameters(folder))


def _stop_between_steps(number: int, _frame: object) -> None:
    """End now if no step runs. A step had the signal too: it may commit, and print, before kfp sees it end."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        raise SystemExit(128 + number) from None


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
    main(Path(sys.argv[1]))
