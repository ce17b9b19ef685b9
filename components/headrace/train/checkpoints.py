"""The checkpoints of a run: which one to go on from, and how a new one comes to count.

A checkpoint counts when its commit record is there and true. It is written in the output folder, committed there,
then uploaded to `--store`, its commit record last; only then are older ones pruned.
"""

from __future__ import annotations

import logging
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headrace.artifacts.checkpoint import (
    COMMIT,
    REFERENCE,
    CheckpointRef,
    CommitRecord,
    commit,
    committed,
    fetch,
    read_commit,
    verify,
)
from headrace.artifacts.files import canonical_json, parse_json, read_json, write_json
from headrace.artifacts.lease import Lease, hold
from headrace.artifacts.outcome import OUTCOME, PROGRESS
from headrace.artifacts.storage import LocalStore, Store, open_store
from headrace.errors import DamagedCheckpoint, HeadraceError, InputError
from headrace.options import Options
from headrace.stream.ledger import FOLDER

log = logging.getLogger(__name__)

DATA_STATE, RUN = "data_state.json", "run.json"
VERSION = 2
_REWRITTEN = {
    COMMIT, REFERENCE, OUTCOME, PROGRESS, "eval_results.json", "all_results.json",
    # Of evaluation, validation and planning, which may be given the same folder.
    "metrics.json", "lineage.json", "scores.parquet", "README.md", "report.html", "report.json", "report.md",
    "plan.json", "plan.md",
}  # fmt: skip
_REMOTE = re.compile(r"checkpoint-(\d+)/" + re.escape(COMMIT))


@dataclass(frozen=True)
class Resume:
    """The checkpoint a run goes on from, whole and on this machine."""

    folder: Path
    record: CommitRecord
    state: dict[str, Any]
    named: bool = False
    """Whether --resume_from_checkpoint named it, and nothing was trained since."""

    @property
    def started_from(self) -> str | None:
        """What the commits to come say of where the run began to write here."""
        found: str | None = self.record.hash if self.named else self.state["started_from"]
        return found


class Checkpoints:
    """The places of one run: its output folder, and the store beside it when there is one."""

    def __init__(self, output_dir: Path, store: str | None, keep: int | None, commit_every_s: float = 0.0) -> None:
        self.output_dir = output_dir
        self.store = _other_store(output_dir, store)
        self.commit_every_s = commit_every_s
        self.only_store = False
        """Whether only what lies in the store is gone on from: the nodes have disks of their own."""
        self._keep = keep
        self._interim: set[str] = set()
        self._leases: list[Lease] = []

    def hold(self, run_id: str | None, lost: Callable[[HeadraceError], None]) -> None:
        """Keep other runs out of the output folder and the store; Taken names the run that is there."""
        for store in (LocalStore(self.output_dir), *([self.store] if self.store else [])):
            self._leases.append(hold(store, run_id, lost=lost))

    def release(self) -> None:
        """Let other runs in."""
        while self._leases:
            self._leases.pop().release()

    @property
    def shown(self) -> str:
        """Where checkpoints count, for messages."""
        return self.store.uri if self.store else str(self.output_dir)

    def choose(self, options: Options) -> Resume | None:
        """The checkpoint that the flags ask to go on from: the newest good one unless they say otherwise.

        InputError when one was asked for that is not there, or starting over would mix two runs in one place.
        """
        asked = options.training.get("resume_from_checkpoint")
        run_id = self.recorded_run()
        if run_id is not None and options.train.run_id not in (None, run_id) and not options.train.fresh:
            raise self._other_run(self.shown, run_id, options.train.run_id)
        word = str(asked).lower() if asked is not None else ""
        if options.train.fresh or word in ("false", "no", "0"):
            self._refuse_used_place("--fresh" if options.train.fresh else f"--resume_from_checkpoint {asked}")
            return None
        if asked is None or word in ("true", "yes", "1"):
            found = next(self._good(run_id), None)
            if found is None and asked is not None:
                raise InputError(
                    f"there is no committed checkpoint in {self.shown} to go on from",
                    "leave out --resume_from_checkpoint to start there",
                )
        else:
            found = self._named(str(asked))
            # The same command again: what it has done since it began there counts.
            later = (r for r in self._good(run_id) if r.state["started_from"] == found.record.hash)
            found = next(later, replace(found, named=True))
        if found is not None and options.train.run_id not in (None, found.state["run_id"]):
            raise self._other_run(str(found.folder), found.state["run_id"], options.train.run_id)
        if found is not None:
            if found.state["interim"]:
                self._interim.add(found.folder.name)
            self._take_up_ledger(found.folder)
        return found

    def recorded_run(self) -> str | None:
        """The run that began in this place, also when it has not committed anything yet."""
        for place in (*([self.store] if self.store else []), LocalStore(self.output_dir)):
            if place.exists(RUN):
                return str(parse_json(place.read(RUN), f"{place.uri}/{RUN}")["run_id"])
        return None

    def record_run(self, run_id: str) -> None:
        """Note which run this place belongs to."""
        for place in (LocalStore(self.output_dir), *([self.store] if self.store else [])):
            if not place.exists(RUN) or parse_json(place.read(RUN), RUN)["run_id"] != run_id:
                place.write(RUN, canonical_json({"run_id": run_id}))

    @staticmethod
    def _other_run(place: str, run_id: str, asked: str | None) -> InputError:
        return InputError(
            f"{place} is of the run {run_id}; --run_id is {asked}",
            "leave out --run_id to go on with that run, or name a new --output_dir (and --store)",
        )

    def _take_up_ledger(self, folder: Path) -> None:
        """Bring what earlier starts wrote in the store, or beside a checkpoint of another folder."""
        places = [self.store.child(FOLDER)] if self.store else []
        for place in (*places, LocalStore(folder.parent / FOLDER)):
            for name in place.names():
                if not (self.output_dir / FOLDER / name).is_file():
                    place.download_file(name, self.output_dir / FOLDER / name)

    def _refuse_used_place(self, flag: str) -> None:
        there = [str(folder) for folder, _ in committed(self.output_dir).found]
        there += [str(self.output_dir / COMMIT)] if (self.output_dir / COMMIT).is_file() else []
        there += [f"{self.shown}/checkpoint-{step}" for step in self._remote_steps()]
        if there:
            raise InputError(
                f"{flag} starts over, but {there[0]} is there and nothing is deleted",
                f"name a new place: --output_dir {self.output_dir}-2"
                + (f" --store {self.store.uri}-2" if self.store else "")
                + f"; without {flag} the run goes on",
            )

    def _good(self, run_id: str | None) -> Iterator[Resume]:
        """Checkpoints of a run to go on from, newest first; why others are passed over is logged."""
        local = committed(self.output_dir)
        for reason in local.passed_over:
            log.warning("passed over: %s", reason)
        here = set() if self.only_store else {record.step for _, record in local.found}
        readers = (self._read_remote,) if self.only_store else (self._read_local, self._read_remote)
        for step in sorted({*here, *self._remote_steps()}, reverse=True):
            for read in readers:
                try:
                    found = read(step)
                except DamagedCheckpoint as error:
                    log.warning("passed over: %s", error.message)
                    continue
                if found is None:
                    continue
                if run_id is not None and found.state["run_id"] != run_id:
                    log.warning("passed over: %s is of the run %s", found.folder, found.state["run_id"])
                    continue
                yield found
                break

    def _remote_steps(self) -> list[int]:
        if self.store is None:
            return []
        return [int(m[1]) for name in self.store.names("checkpoint-") if (m := _REMOTE.fullmatch(name))]

    def _read_local(self, step: int) -> Resume | None:
        folder = self.output_dir / f"checkpoint-{step}"
        return _read(folder) if (folder / COMMIT).is_file() else None

    def _read_remote(self, step: int) -> Resume | None:
        if step not in self._remote_steps() or self.store is None:
            return None
        return self.bring(f"{self.store.uri}/checkpoint-{step}")

    def _named(self, location: str) -> Resume:
        if "://" in location:
            return self.bring(location)
        folder = Path(location).expanduser()
        if not folder.is_dir():
            raise InputError(f"there is no checkpoint folder {location}", "check --resume_from_checkpoint")
        return _read(folder)

    def bring(self, uri: str) -> Resume:
        """Download a checkpoint, check it, and put it where it would have been written."""
        log.info("fetching %s", uri)
        with tempfile.TemporaryDirectory(dir=self.output_dir, prefix=".fetched-") as scratch:
            fetched = _read(fetch(uri, Path(scratch)).folder)
            target = self.output_dir / f"checkpoint-{fetched.record.step}"
            make_room(target)
            fetched.folder.replace(target)
        return Resume(target, fetched.record, fetched.state)

    def commit(self, folder: Path, state: Mapping[str, Any], best: Path | None, ledger_head: str) -> CommitRecord:
        """Write the data state, commit, upload, prune."""
        write_json(folder / DATA_STATE, state)
        record = commit(folder, step=int(state["step"]), plan_hash=str(state["plan_hash"]), ledger_head=ledger_head)
        if self.store is not None:
            self.store.child(FOLDER).upload_folder(self.output_dir / FOLDER)
            there = self.store.child(folder.name)
            if not _holds(there, record):
                there.delete(COMMIT)  # of an earlier attempt: it must not vouch for a mixture
                there.upload_folder(folder)
        log.info("committed %s", f"{self.store.uri}/{folder.name}" if self.store else folder)
        self._prune({folder, *([best] if best else [])})
        if state["interim"]:
            self._interim.add(folder.name)
        return record

    def _prune(self, protected: set[Path]) -> None:
        """Remove commits made by time, and the oldest beyond the limit; never the one just written."""
        names = {path.name for path in protected}
        here = [folder.name for folder, _ in reversed(committed(self.output_dir).found)]
        for name in self._spare(here, names):
            make_room(self.output_dir / name)
        if self.store is None:
            return
        for name in self._spare([f"checkpoint-{s}" for s in sorted(self._remote_steps())], names):
            there = self.store.child(name)
            there.delete(COMMIT)
            for file in there.names():
                there.delete(file)

    def _spare(self, oldest_first: list[str], protected: set[str]) -> list[str]:
        interim = [n for n in oldest_first if n in self._interim and n not in protected]
        if not self._keep or self._keep < 1:
            return interim
        others = [n for n in oldest_first if n not in interim]
        removable = [n for n in others if n not in protected]
        return interim + removable[: max(0, len(others) - self._keep)]

    def publish(self, names: list[str], *, step: int, plan_hash: str, ledger_head: str) -> CommitRecord:
        """Commit the final model in the output folder, and put it at the top of the store."""
        record = commit(self.output_dir, step=step, plan_hash=plan_hash, ledger_head=ledger_head, names=names)
        CheckpointRef(uri=".", commit_hash=record.hash, step=step, ledger_head=ledger_head).write(self.output_dir)
        if self.store is not None:
            self.store.child(FOLDER).upload_folder(self.output_dir / FOLDER)
            for name in (REFERENCE, COMMIT):
                self.store.delete(name)
            for name in (*names, COMMIT, REFERENCE):
                self.store.upload_file(self.output_dir / name, name)
        return record


def _other_store(output_dir: Path, store: str | None) -> Store | None:
    """The store, unless it is the output folder itself."""
    if not store:
        return None
    opened = open_store(store)
    same = isinstance(opened, LocalStore) and opened.folder.resolve() == output_dir.resolve()
    return None if same else opened


def _holds(store: Store, record: CommitRecord) -> bool:
    """Whether a store has this very checkpoint, committed: the reply to an earlier attempt was lost."""
    return store.exists(COMMIT) and parse_json(store.read(COMMIT), store.uri).get("hash") == record.hash


def _read(folder: Path) -> Resume:
    """A committed checkpoint of a Headrace run; DamagedCheckpoint when it is not one, or not whole."""
    record = read_commit(folder)
    verify(folder, record)
    if DATA_STATE not in record.files:
        raise DamagedCheckpoint(
            f"{folder} holds a model, but no {DATA_STATE} to go on from",
            "to start a new run from its weights, name it with --model_name_or_path",
        )
    state = read_json(folder / DATA_STATE)
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise DamagedCheckpoint(f"{folder / DATA_STATE} is of another version of Headrace", "use that version")
    if "optimizer.pt" not in record.files and not state["sharded"]:
        raise DamagedCheckpoint(
            f"{folder} was saved with --save_only_model: it has no optimizer state to go on from",
            "to start a new run from its weights, name it with --model_name_or_path",
        )
    return Resume(folder, record, state)


def make_room(folder: Path) -> None:
    """Remove a checkpoint folder, its commit record first, so that what is left by a crash does not count."""
    (folder / COMMIT).unlink(missing_ok=True)
    if folder.is_dir():
        shutil.rmtree(folder)


def as_json(number: float) -> float | None:
    """A float as strict JSON carries it: None for NaN and infinities."""
    return number if math.isfinite(number) else None


def finished_step(output_dir: Path, plan_hash: str) -> int | None:
    """Steps of the whole final model of this plan in the output folder; None when there is none."""
    try:
        record = read_commit(output_dir)
        verify(output_dir, record)
    except DamagedCheckpoint:
        return None
    return record.step if record.plan_hash == plan_hash else None


def final_files(output_dir: Path) -> list[str]:
    """Names of what the commit of the final model vouches for: everything at the top that no later step rewrites."""
    names = (p.name for p in output_dir.iterdir() if p.is_file() and not p.name.startswith("."))
    return sorted(name for name in names if name not in _REWRITTEN)
