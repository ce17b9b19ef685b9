"""A model and its papers, put where others find them: staged as a version, verified, then made current."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.artifacts.checkpoint import COMMIT, CommitRecord, commit, read_commit
from headrace.artifacts.files import write_json
from headrace.artifacts.storage import Store
from headrace.errors import AlreadyExists, DamagedCheckpoint, HeadraceError
from headrace.evaluate.subject import RECORD, Subject, public
from headrace.inputs import Progress

log = logging.getLogger(__name__)

GENERATION = "generation_config.json"
_SHORT = 8


@dataclass(frozen=True)
class Staged:
    """Where a version lies. record: of the model's files there; written: names that were new or different."""

    uri: str
    version: str
    record: CommitRecord
    written: tuple[str, ...]


def stage(
    store: Store,
    sealed: Sealed,
    *,
    papers: Sequence[Path],
    scratch: Path,
    progress: Progress | None = None,
) -> Staged:
    """Put a sealed model at `<store>/<version>/` with its papers beside it, and verify it there.

    What is there already, equal, is left alone, so that doing it again costs nothing. The model's files are vouched
    for by a commit record: `--model_name_or_path <store>/<version>` verifies them. HeadraceError when what arrived is
    not what was sent, or when another model has that name.
    """
    version, record = sealed.version, sealed.record
    there = store.child(version)
    written: list[str] = []
    known = _commit_hash(there, scratch) if there.exists(COMMIT) else None
    if known is not None and known != record.hash:
        raise HeadraceError(f"{there.uri} is another model, {known}", "publish to another place")
    if known is None:
        there.delete(COMMIT)  # one that cannot be read vouches for nothing
        written += _upload(there, sealed.folder, record, scratch, progress)
    for name in record.files:
        if not there.same(name, sealed.folder / name):
            raise HeadraceError(
                f"{there.uri}/{name} is not what was sent", "remove that version there, then run the same command again"
            )
    for path in papers:
        if not there.same(path.name, path):
            there.upload_file(path, path.name)
            written.append(path.name)
    return Staged(there.uri, version, record, tuple(f"{version}/{name}" for name in written))


@dataclass(frozen=True)
class Sealed:
    """A model as it is published. folder: links to its files; record: vouches for them."""

    folder: Path
    record: CommitRecord
    committed: bool

    @property
    def version(self) -> str:
        """A name for exactly this content: `step-99-1a2b3c4d`, or `model-1a2b3c4d` when it was never committed."""
        return f"{f'step-{self.record.step}' if self.committed else 'model'}-{self.record.hash[:_SHORT]}"


def seal(subject: Subject, folder: Path, *, trust_remote_code: bool = False) -> Sealed:
    """Put all that is published of a model into a new folder, as links where it lies here.

    That is its files; the generation config that its configuration implies, where it brings none; and what is known of
    its training, so that a version can be scored and continued as the training's own output can.
    """
    folder.mkdir(parents=True)
    for name, path in subject.files.items():
        (folder / name).symlink_to(path.resolve())
    if subject.record:
        write_json(folder / RECORD, public(subject.record))
    if GENERATION not in subject.files:
        from transformers import AutoConfig, GenerationConfig

        config = AutoConfig.from_pretrained(subject.folder, trust_remote_code=trust_remote_code, local_files_only=True)
        implied = GenerationConfig.from_model_config(config).to_dict()
        implied.pop("transformers_version", None)  # the same model is the same version whoever publishes it
        write_json(folder / GENERATION, implied)
    origin = subject.commit
    record = commit(
        folder,
        step=origin.step if origin else 0,
        plan_hash=origin.plan_hash if origin else "",
        ledger_head=origin.ledger_head if origin else "",
    )
    return Sealed(folder, record, origin is not None)


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
