"""A step's side of tracking: a journal on disk, and a process that reads it. Nothing here raises or hangs."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from headrace.artifacts.files import read_json
from headrace.errors import HeadraceError
from headrace.tracking.journal import FOLDER, STATE, Journal, RunFacts
from headrace.tracking.modes import ONLINE

log = logging.getLogger(__name__)

SAID, ERRORS = "said.txt", "errors.txt"
WAIT_S = 60.0
"""How long the end of a step waits for its run to arrive."""


class Tracker:
    """Records the run of a step in `OUTPUT_DIR/tracking`, and has it sent in a process of its own.

    A fault, of the disk or of that process, is a warning, and ends the tracking alone.
    """

    def __init__(self, output_dir: Path, facts: RunFacts, mode: str) -> None:
        self.folder, self._mode = output_dir / FOLDER, mode
        self._journal: Journal | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._lost = False
        self._safely(lambda: self._open(facts))

    def _open(self, facts: RunFacts) -> None:
        self._journal = Journal(self.folder, facts)
        with (self.folder / SAID).open("wb") as said, (self.folder / ERRORS).open("wb") as errors:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "headrace.tracking", str(self.folder), "--mode", self._mode, "--follow"],
                stdin=subprocess.PIPE, stdout=said, stderr=errors, env=_environment(self.folder.parent),
                # Signals to the step's group are not for it, and its own processes end with its group.
                start_new_session=True,
            )  # fmt: skip
        self._said = (self.folder / SAID).open("rb")

    def row(self, step: int, values: Mapping[str, Any]) -> None:
        """Note the values of a step; pass on what the other process has to say."""
        self._write(lambda journal: journal.row(step, values))
        self._safely(self._pass_on)
        if self._child is not None and self._child.poll() is not None:
            self._lose("its process has ended")

    def scores(self, version: str, values: Mapping[str, Any]) -> None:
        """Note the final scores."""
        self._write(lambda journal: journal.scores(version, values))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Note a table of scores."""
        self._write(lambda journal: journal.table(name, columns, rows))

    def finish(self, wait_s: float = WAIT_S) -> bool:
        """End the run, and wait for it to arrive: whether it did. What did not is on disk still."""
        self._write(Journal.end)
        child, self._child = self._child, None
        if child is None:
            return False
        assert child.stdin is not None
        child.stdin.close()
        try:
            reason = "" if child.wait(wait_s) == 0 else "its process failed"
        except subprocess.TimeoutExpired:
            reason = f"not done within {wait_s:g} s"
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        self._safely(self._pass_on)
        self._close()
        if reason:
            self._lose(reason)
        return not reason

    def leave(self) -> None:
        """Leave the run as one that goes on later; waits for nothing. The other process ends by itself."""
        child, self._child = self._child, None
        if child is not None and child.stdin is not None:
            child.stdin.close()
            child.returncode = 0  # or Python warns of one that it did not wait for
        self._close()

    def recorded(self) -> Path | None:
        """W&B's own folder of the run, if it came to one."""
        try:
            return Path(read_json(self.folder / STATE)["folder"])
        except HeadraceError:
            return None

    def _close(self) -> None:
        self._end_journal()
        if self._said is not None:
            self._said.close()
            self._said = None

    def _end_journal(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            with suppress(OSError):
                journal.close()

    def _write(self, write: Callable[[Journal], None]) -> None:
        journal = self._journal
        if journal is not None:
            self._safely(lambda: write(journal))

    def _safely(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, ValueError, TypeError) as error:  # a full disk; a value that is no JSON
            self._end_journal()
            self._lose(f"{type(error).__name__}: {error}")

    def _pass_on(self) -> None:
        for line in self._said.read().decode("utf-8", "replace").splitlines() if self._said else ():
            log.warning("Weights & Biases: %s", line)

    def _lose(self, reason: str) -> None:
        if not self._lost:
            send = f"; to send it later: {Path(sys.executable).name} -m headrace.tracking {self.folder}"
            log.warning("Weights & Biases did not get the run (%s)%s", reason, send if self._mode == ONLINE else "")
        self._lost = True


def _environment(output_dir: Path) -> dict[str, str]:
    """What the other process sees: W&B's staging below the output where the user named no place, and no telemetry."""
    ours = {"WANDB_DATA_DIR": str(output_dir / "wandb"), "WANDB_ERROR_REPORTING": "false", "PYTHONSAFEPATH": "1"}
    return {**ours, **{name: value for name, value in os.environ.items() if name != "WANDB_MODE"}}
