"""A model and its papers, put where others find them: staged as a version, verified, then made current."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.artifacts.checkpoint import COMMIT, CommitRecord, commit, read_commit
from headrace.artifacts.storage import Store
from headrace.errors import AlreadyExists, DamagedCheckpoint, HeadraceError
from headrace.evaluate.subject import Subject
from headrace.inputs import Progress

log = logging.getLogger(__name__)

GENERATION = "generation_config.json"


@dataclass(frozen=True)
class Staged:
    """Where a version lies. record: of the model's files there; written: names that were new or different."""

    uri: str
    version: str
    record: CommitRecord
    written: tuple[str, ...]


def stage(
    store: Store,
    version: str,
    staging: Path,
    *,
    papers: Sequence[Path],
    scratch: Path,
    progress: Progress | None = None,
) -> Staged:
    """Put a sealed model folder at `<store>/<version>/` with its papers beside it, and verify it there.

    What is there already, equal, is left alone, so that doing it again costs nothing. The model's files are vouched
    for by a commit record: `--model_name_or_path <store>/<version>` verifies them. HeadraceError when what arrived is
    not what was sent.
    """
    there = store.child(version)
    record = read_commit(staging)
    written: list[str] = []
    begun = there.exists(COMMIT)
    if not begun or _commit_hash(there, scratch) != record.hash:
        if begun:  # a record of other files must not vouch for these while they arrive
            there.delete(COMMIT)
        written += _upload(there, staging, record, scratch, progress)
    for name in record.files:
        if not there.same(name, staging / name):
            raise HeadraceError(
                f"{there.uri}/{name} is not what was sent", "remove that version there, then run the same command again"
            )
    for path in papers:
        if not there.same(path.name, path):
            there.upload_file(path, path.name)
            written.append(path.name)
    return Staged(there.uri, version, record, tuple(f"{version}/{name}" for name in written))


def whole(subject: Subject, scratch: Path, *, trust_remote_code: bool) -> dict[str, Path]:
    """A model's files, by name, with the generation config that its configuration implies where it brings none."""
    if GENERATION in subject.files:
        return subject.files
    from transformers import AutoConfig, GenerationConfig

    config = AutoConfig.from_pretrained(subject.folder, trust_remote_code=trust_remote_code, local_files_only=True)
    GenerationConfig.from_model_config(config).save_pretrained(scratch)
    return {**subject.files, GENERATION: scratch / GENERATION}


def seal(staging: Path, model: Mapping[str, Path], origin: CommitRecord | None) -> CommitRecord:
    """Links to a model's files in a new folder, and the record that vouches for them."""
    staging.mkdir(parents=True)
    for name, path in model.items():
        (staging / name).symlink_to(path.resolve())
    return commit(
        staging,
        step=origin.step if origin else 0,
        plan_hash=origin.plan_hash if origin else "",
        ledger_head=origin.ledger_head if origin else "",
    )


def _commit_hash(there: Store, scratch: Path) -> str | None:
    """The hash of the version that is there; None when its record is damaged."""
    copy = scratch / "published"
    there.download_file(COMMIT, copy / COMMIT)
    try:
        return read_commit(copy).hash
    except DamagedCheckpoint:
        return None


def _upload(
    there: Store, staging: Path, record: CommitRecord, scratch: Path, progress: Progress | None
) -> Sequence[str]:
    total = sum(path.stat().st_size for path in staging.iterdir())
    done = 0

    def arrived(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress("publish", done, total, "bytes")

    try:
        return there.upload_folder(staging, arrived)
    except AlreadyExists:
        # Another process has published the same model meanwhile; the record of each has a time of its own.
        if _commit_hash(there, scratch) != record.hash:
            raise
        log.info("%s was published by another process meanwhile", there.uri)
        return ()
