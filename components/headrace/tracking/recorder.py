"""The process beside a step: reads its journal, and brings the run at Weights & Biases up to it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from headrace.artifacts.files import canonical_json, write_json
from headrace.tracking import journal
from headrace.tracking.journal import JOURNAL, STATE, Merged, RunFacts, follow, read_facts

INIT_S = 20.0
"""How long one attempt to reach the server may take."""
AGAIN_S = 15.0
"""Between attempts."""
ORPHANED_S = 30.0
"""How long it goes on without the step that started it."""
LOOK_S = 0.5
LOCK = "lock"
SENT, NOT_SENT = 0, 1

AXIS = "train/global_step"
"""What curves are drawn over; the Trainer's own callback calls it so too."""
ROOM = 1000
"""W&B's steps to one of the training. The server reports the last one it has, and takes none below: rows of evaluations
stand between the row of their training step and that of the next, which a training that goes on still has to send."""
EVALUATED = "eval/recorded"
"""In the summary: digests of the evaluations that the server has."""


def record(folder: Path, *, online: bool, following: bool) -> int:
    """Record a journal, in W&B's own file or at its server; 0 when all of it is there, else 1 and a word on stdout.

    following: until the journal ends or standard input does, which its writer holds open.
    """
    facts = read_facts(folder)
    with (folder / LOCK).open("wb") as lock:
        return _record(folder, _Sink(folder, facts, lock, online=online), following=following)


def _record(folder: Path, sink: _Sink, *, following: bool) -> int:
    waiting: deque[tuple[str, Any]] = deque()
    whole = False
    for entry in follow(folder / JOURNAL, _writer_there if following else lambda: False):
        if entry is not None:
            waiting.append(entry)
            whole = entry[0] == journal.END
        elif sink.connect():
            _drain(waiting, sink)
    if following and not whole:
        _end_after(ORPHANED_S)
    if not sink.connect(now=True):
        return NOT_SENT
    _drain(waiting, sink)
    sink.finish(whole=whole)
    return SENT


def _drain(waiting: deque[tuple[str, Any]], sink: _Sink) -> None:
    while waiting:
        sink.put(*waiting.popleft())


def _writer_there() -> bool:
    """Whether standard input is open at its other end; waits a moment."""
    ready, _, _ = select.select([0], [], [], LOOK_S)
    return not ready or bool(os.read(0, 1024))


def _end_after(seconds: float) -> None:
    """Bound what follows: this process and W&B's own have a session of their own, and end with it."""
    timer = threading.Timer(seconds, lambda: os.killpg(os.getpgid(0), signal.SIGKILL))
    timer.daemon = True
    timer.start()


class _Sink:
    """A run at the tracker, or the attempts to get one."""

    def __init__(self, folder: Path, facts: RunFacts, lock: IO[bytes], *, online: bool) -> None:
        self._folder, self._facts, self._online = folder, facts, online
        self._run: Any = None
        self._free, self._step = 0, -1
        self._merged = Merged()
        self._lock = lock
        self._next = 0.0
        self._said = ""
        self._version = ""
        self._tables: list[dict[str, Any]] = []

    def connect(self, *, now: bool = False) -> bool:
        """Whether there is a run to log to; tries to get one when it is time to, or `now`."""
        if self._run is None and (now or time.monotonic() >= self._next) and self._alone(wait=now):
            import wandb

            try:
                self._run = self._open()
            except Exception as error:  # of any kind: the server's, its client's, the disk's
                wandb.teardown()
                self._say(f"{type(error).__name__}: {error}")
                self._next = time.monotonic() + AGAIN_S
        return self._run is not None

    def _alone(self, *, wait: bool) -> bool:
        """Whether no earlier start is still sending: two at once would log what both of them miss."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError:
            pass  # a file system without locks
        return True

    def _open(self) -> Any:
        import wandb

        facts = self._facts
        settings = wandb.Settings(
            mode="online" if self._online else "offline", silent=True, console="off", disable_git=True,
            save_code=False, init_timeout=INIT_S, x_disable_stats=True, x_disable_meta=True,
            x_save_requirements=False,
        )  # fmt: skip
        run = wandb.init(
            project=facts.project, id=facts.id, name=facts.name, job_type=facts.job_type, resume="allow",
            dir=os.environ.get("WANDB_DIR") or str(self._folder.parent), settings=settings,
        )  # fmt: skip
        # What the server has was logged by an earlier start, and is what this one has in its journal too.
        self._free = int(run.starting_step)
        run.config.update(dict(facts.config), allow_val_change=True)  # type: ignore[no-untyped-call]
        state = {"id": facts.id, "folder": str(run.settings.sync_dir), "online": self._online}
        write_json(self._folder / STATE, state, durable=False)
        return run

    def put(self, kind: str, value: Any) -> None:
        """Take an entry of the journal."""
        match kind:
            case journal.ROW:
                self._train(self._merged.add(value["step"], value["values"]))
            case journal.SCORES:
                self._train(self._merged.flush())
                self._score(value["version"], value["values"])
            case journal.TABLE:
                self._tables.append(value)
            case journal.END:
                self._train(self._merged.flush())

    def _train(self, row: tuple[int, dict[str, Any]] | None) -> None:
        if row is None:
            return
        step, values = row
        if self._step < 0:
            self._run.define_metric(AXIS)
            self._run.define_metric("*", step_metric=AXIS)
        self._step = step
        if step * ROOM >= self._free:
            self._log({**values, AXIS: step}, step * ROOM)

    def _score(self, version: str, values: dict[str, Any]) -> None:
        self._version = version
        row = {**values, "version": version, **self._axis()}
        self._once([version, values], lambda: self._log(row, self._after()))

    def _log(self, values: dict[str, Any], at: int) -> None:
        self._run.log(values, step=at)
        self._free = at + 1

    def _axis(self) -> dict[str, int]:
        return {} if self._step < 0 else {AXIS: self._step}

    def _after(self) -> int:
        """W&B's step of a row that is not the training's."""
        return max(self._step * ROOM + 1, self._free)

    def _once(self, said: Any, log: Callable[[], None]) -> None:
        """Log a part of an evaluation, unless the server has it."""
        digest = hashlib.sha256(canonical_json(said)).hexdigest()[:16]
        known = str(self._run.summary.get(EVALUATED) or "")
        if digest not in known.split():
            log()
            self._run.summary[EVALUATED] = f"{known} {digest}".strip()

    def finish(self, *, whole: bool) -> None:
        """Log the tables, and wait until everything is where it belongs."""
        try:
            if self._tables:
                self._once([self._version, self._tables], self._log_tables)
        except Exception as error:  # they are artifacts, which not every server takes: the run is worth having without
            self._say(f"the tables are missing: {type(error).__name__}: {error}")
        # Left half-way, a training goes on in another start.
        self._run.finish(exit_code=0 if whole else 1)

    def _log_tables(self) -> None:
        """All tables as one row, which is sent once they have arrived, so that a kill before leaves them to be sent."""
        import wandb

        made, at = {}, self._after()
        for table in self._tables:
            with self._told(table["name"]):
                made[table["name"]] = wandb.Table(columns=table["columns"], data=table["rows"])
        self._run.log(made, step=at, commit=False)
        for name, logged in made.items() if self._online else ():
            with self._told(name):
                target = logged._artifact_target  # no public name leads to its artifact
                if target is not None:
                    target.artifact.wait()
        self._log(self._axis(), at)

    @contextmanager
    def _told(self, table: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._say(f"the table {table} is missing: {type(error).__name__}: {error}")

    def _say(self, reason: str) -> None:
        """One line for the step to pass on, once."""
        key = os.environ.get("WANDB_API_KEY") or ""
        line = " ".join((reason.replace(key, "…") if key else reason).split())
        if line != self._said:
            print(line, flush=True)
        self._said = line
