"""How far a run's training is, told from its newest committed checkpoint: the API of the back end has no metrics."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headrace.artifacts.checkpoint import COMMIT
from headrace.artifacts.files import parse_json
from headrace.artifacts.storage import of_job, open_store
from headrace.errors import HeadraceError

LOOK_S = 30.0
"""Between two looks into the store."""
TRIES = 3
STATE = "trainer_state.json"
_COMMITTED = re.compile(r"checkpoint-(\d+)/" + re.escape(COMMIT))


class Committed:
    """Looks into a run's store now and then. A store that cannot be read from here is left alone after some tries."""

    def __init__(self, parameters: Mapping[str, Any], job: str, look_s: float = LOOK_S) -> None:
        store = of_job(str(parameters.get("store") or ""), job)
        # A folder is a claim's, which only the steps see, unless it is here too.
        self._store = store if "://" in store or (store and Path(store).is_dir()) else ""
        self._look_s, self._looked = look_s, float("-inf")
        self._failed, self._step, self._facts = 0, -1, list[tuple[str, str]]()

    def facts(self, note: Callable[[str], None]) -> list[tuple[str, str]]:
        """The committed step and the loss logged last before it, by name; empty before the first commit."""
        if self._store and time.monotonic() - self._looked >= self._look_s:
            try:
                self._look()
                self._failed = 0
            except HeadraceError as error:  # a checkpoint may have been pruned between two requests
                self._failed += 1
                if self._failed == TRIES:
                    self._store = ""
                    note(f"how far the training is cannot be seen from here: {error.message}")
            self._looked = time.monotonic()
        return self._facts

    def _look(self) -> None:
        store = open_store(self._store)
        step = max((int(m[1]) for n in store.names("checkpoint-") if (m := _COMMITTED.fullmatch(n))), default=-1)
        if step != self._step:
            name = f"checkpoint-{step}/{STATE}"
            self._step, self._facts = step, _facts(step, parse_json(store.read(name), f"{store.uri}/{name}"))


def _facts(step: int, state: Mapping[str, Any]) -> list[tuple[str, str]]:
    last = int(state.get("max_steps") or 0)
    found = [("committed step", f"{step:,}" + (f" of {last:,}" if last else ""))]
    losses = [entry["loss"] for entry in state.get("log_history") or () if "loss" in entry]
    return [*found, ("training loss", f"{losses[-1]:.4f}")] if losses else found
