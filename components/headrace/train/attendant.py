"""Training in a process of its own, for those whose parent knows neither exit codes nor signals.

Kubeflow's launcher forwards no signal and tries again whatever the code was. So what is to be tried again is tried
again here, in place, and what must not be is noted in the run's store, where the next attempt finds it.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace.artifacts.checkpoint import committed
from headrace.artifacts.files import canonical_json, parse_json
from headrace.artifacts.outcome import OUTCOME
from headrace.artifacts.storage import Store
from headrace.errors import EXIT_DONE, EXIT_PREEMPTED, InputError
from headrace.train.ended import ended
from headrace.train.preemption import SIGNALS, end_with_parent

log = logging.getLogger(__name__)

TERMINAL = "terminal.json"


def attend(values: Mapping[str, Any], folder: Path) -> None:
    """Run `headrace train` with these flags until it is done; raises what it ended with.

    Preempted by a signal that this process did not get, it runs again, as long as each start commits something.
    """
    newest = None
    while True:
        code, stopped = _run(values, folder)
        if code == EXIT_DONE:
            return
        if code != EXIT_PREEMPTED or stopped:
            raise ended(code, folder)
        found = committed(folder).found
        step = found[0][1].step if found else None
        if step == newest:
            raise ended(code, folder)
        newest = step
        log.warning("the training was preempted; it goes on in place from step %s", step)


def _run(values: Mapping[str, Any], folder: Path) -> tuple[int, bool]:
    """One start: its exit code, and whether this process was asked to stop meanwhile."""
    stopped = False
    (folder / OUTCOME).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="headrace-flags-") as scratch:
        config = Path(scratch) / "flags.json"
        config.write_text(json.dumps({**values, "output_dir": str(folder)}))
        # A session of its own: a signal to this process's group reaches it once, from here.
        process = subprocess.Popen(
            [sys.executable, "-m", "headrace.train", "--config", str(config)],
            start_new_session=True,
            preexec_fn=end_with_parent,
        )

        def forward(number: int, _: object) -> None:
            nonlocal stopped
            stopped = True
            process.send_signal(number)

        main = threading.current_thread() is threading.main_thread()
        before = {number: signal.signal(number, forward) for number in SIGNALS} if main else {}
        try:
            return process.wait(), stopped
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if process.poll() is None:
                process.terminate()
                process.wait()


@contextmanager
def terminal(store: Store | None, job: str) -> Iterator[None]:
    """Note in the store that a job failed for good, and refuse another attempt of it at once."""
    if store is None or not job:
        yield
        return
    if store.exists(TERMINAL):
        noted = parse_json(store.read(TERMINAL), f"{store.uri}/{TERMINAL}")
        if noted["job"] == job:
            remedy = "; then ".join(filter(None, (noted["remedy"], "submit the run anew: its retries all end here")))
            raise InputError(f"an earlier attempt failed for good: {noted['error']}", remedy)
        store.delete(TERMINAL)
    try:
        yield
    except InputError as error:
        store.write(TERMINAL, canonical_json({"job": job, "error": error.message, "remedy": error.remedy}))
        raise
