"""What a training that ran in other processes ended with."""

from __future__ import annotations

import signal
from pathlib import Path

from headrace.artifacts.outcome import read_outcome
from headrace.errors import EXIT_INPUT, EXIT_PREEMPTED, HeadraceError, InputError, Preempted
from headrace.train.shared_memory import too_little_shared_memory

KINDS: dict[int, type[HeadraceError]] = {EXIT_INPUT: InputError, EXIT_PREEMPTED: Preempted}


def ended(code: int, folder: Path) -> HeadraceError:
    """The error behind an exit code, as the training's `outcome.json` says; code below 0: killed by that signal."""
    if code < 0:
        name = signal.Signals(-code).name
        hint = ""
        if -code == signal.SIGKILL:
            hint = ": perhaps there was not enough memory"
        elif -code == signal.SIGBUS:
            hint = (
                too_little_shared_memory() or ": a file that was mapped into memory became shorter, or its disk failed"
            )
        return HeadraceError(f"the training was killed by {name}{hint}", "a retry goes on from the newest commit")
    try:
        outcome = read_outcome(folder)
    except InputError:
        outcome = {"error": f"the training ended with code {code}", "remedy": "its log says why"}
    return KINDS.get(code, HeadraceError)(str(outcome["error"]), str(outcome["remedy"]))
