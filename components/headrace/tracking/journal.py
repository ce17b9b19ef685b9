"""What a step has to say of its run, on disk: facts once, then one JSON object a line."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from headrace.artifacts.files import finite, read_json, write_json

FOLDER, FACTS, JOURNAL, STATE = "tracking", "run.json", "journal.jsonl", "state.json"
ROW, SCORES, TABLE, END = "row", "scores", "table", "end"
"""What a line may hold, as its only key: a logged step, final scores, a table of them, the end of the run."""
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_ID = 96


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Which run it is. config: adds to what the server has of it."""

    id: str
    project: str
    name: str
    job_type: str
    config: Mapping[str, Any] = field(default_factory=dict)


def tracking_id(run_id: str, plan_hash: str, started_from: str | None) -> str:
    """The run's name at the tracker: equal for each start of one training, another for one that branched off."""
    digest = hashlib.sha256("\n".join((run_id, plan_hash, started_from or "")).encode()).hexdigest()[:8]
    return f"{_UNFIT.sub('-', run_id)[:_LONGEST_ID]}-{digest}"


def training_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of a training's log under the names it has at the tracker."""
    return {f"train/{name}": value for name, value in entry.items() if name != "step" and value is not None}


class Journal:
    """Writes the journal of one start, anew; OSError when it cannot."""

    def __init__(self, folder: Path, facts: RunFacts) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STATE).unlink(missing_ok=True)
        write_json(folder / FACTS, asdict(facts))
        # A new file: the process of an earlier start may be reading its own still.
        (folder / JOURNAL).unlink(missing_ok=True)
        self._file: IO[bytes] = (folder / JOURNAL).open("wb")

    def row(self, step: int, values: Mapping[str, Any]) -> None:
        """Values of a step, which never goes back; several of one step become one row."""
        self._write(ROW, {"step": step, "values": finite(values)})

    def scores(self, version: str, values: Mapping[str, Any]) -> None:
        """The scores of the model that the training made."""
        self._write(SCORES, {"version": version, "values": finite(values)})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table of scores."""
        self._write(TABLE, {"name": name, "columns": list(columns), "rows": [list(row) for row in rows]})

    def end(self) -> None:
        """The run is whole."""
        self._write(END, 0)

    def _write(self, kind: str, value: Any) -> None:
        self._file.write(json.dumps({kind: value}, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Write no more."""
        self._file.close()


def read_facts(folder: Path) -> RunFacts:
    """What `Journal` wrote of its run; InputError when there is none."""
    return RunFacts(**read_json(folder / FACTS))


def follow(path: Path, going: Callable[[], bool]) -> Iterator[tuple[str, Any] | None]:
    """The lines of a journal that is still written, as (kind, value); None whenever there is nothing new.

    Ends when the journal does: after its end, or when nothing is `going` on any more, which waits a moment.
    """
    with path.open("rb") as file:
        rest = b""
        while True:
            more = going()  # asked first: what was written before the writer ended is read after
            rest += file.read()
            *lines, rest = rest.split(b"\n")
            for line in lines:
                ((kind, value),) = json.loads(line).items()
                yield kind, value
                if kind == END:
                    return
            if not more:
                return
            yield None


class Merged:
    """Makes one row of all values of a step. It is given out when something else follows: until then it may grow."""

    def __init__(self) -> None:
        self._step: int | None = None
        self._values: dict[str, Any] = {}

    def add(self, step: int, values: Mapping[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Take values of a step; the row of the step before, if that is whole now."""
        done = self.flush() if step != self._step else None
        self._step = step
        self._values |= values
        return done

    def flush(self) -> tuple[int, dict[str, Any]] | None:
        """The row that was kept back, if any."""
        done = None if self._step is None else (self._step, self._values)
        self._step, self._values = None, {}
        return done
