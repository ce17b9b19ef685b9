"""Which model is scored: where it was brought, which commit it is, how it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.artifacts.checkpoint import COMMIT, CommitRecord, read_commit
from headrace.artifacts.files import read_json
from headrace.inputs import small_files
from headrace.options import Options
from headrace.scoring.models import CONFIG, TOKENIZER, WEIGHTS, fetch_model, is_hub_name, require_weights
from headrace.stream.addresses import cleaned, without_secrets
from headrace.stream.tokenizer import model_folder

RECORD = "headrace.json"


@dataclass(frozen=True)
class Subject:
    """A model folder on this machine, checked, and what is known of its origin.

    location: as the user named it. revision: commit of a Hub model, else empty. commit: None for a model that was not
    committed by Headrace. record, validation: train's headrace.json and validate's report, where they lie beside the
    model, their addresses without secrets. files: weights, configs and tokenizer by name; with --tokenizer, that
    tokenizer's in place of the model's.
    """

    location: str
    folder: Path
    revision: str
    commit: CommitRecord | None
    record: dict[str, Any]
    validation: dict[str, Any] | None
    files: dict[str, Path]


def open_subject(options: Options, scratch: Path) -> Subject:
    """Bring the model of --model_name_or_path here; InputError when it has no weights or is not what was committed."""
    location = str(options.model.model_name_or_path)
    fetched = fetch_model(
        location,
        scratch,
        revision=options.model.model_revision,
        trust_remote_code=options.model.trust_remote_code,
    )
    folder = fetched.folder
    require_weights(folder, location)
    record = _object(folder / RECORD)
    return Subject(
        location=location,
        folder=folder,
        revision=folder.name if is_hub_name(location) else "",
        commit=read_commit(folder) if (folder / COMMIT).is_file() else None,
        record={**record, "dataset": cleaned(record.get("dataset"))} if record else {},
        validation=cleaned(_object(folder / "validation.json")),
        files=_files(folder, options.model.tokenizer, trust_remote_code=options.model.trust_remote_code),
    )


def public(record: Mapping[str, Any]) -> dict[str, Any]:
    """A training record as everyone may read it: its addresses, texts that the model wrote apart, without secrets."""
    found = {name: value if name == "samples" else cleaned(value) for name, value in record.items()}
    heldout = found.get("heldout")
    if isinstance(heldout, dict) and "sources" in heldout:  # by the labels of files, which begin with addresses
        bare = {file: n for file, n in heldout["sources"].items() if without_secrets(file) == file}
        found["heldout"] = {**heldout, "sources": bare}
    return found


def _object(path: Path) -> dict[str, Any] | None:
    value = read_json(path) if path.is_file() else None
    return value if isinstance(value, dict) else None


def _files(folder: Path, tokenizer: str | None, *, trust_remote_code: bool) -> dict[str, Path]:
    found = _matching(folder, (*WEIGHTS, *CONFIG, *(["*.py"] if trust_remote_code else [])))
    beside = folder if tokenizer is None else model_folder(small_files(tokenizer))
    return dict(sorted({**found, **_matching(beside, TOKENIZER)}.items()))


def _matching(folder: Path, patterns: tuple[str, ...]) -> dict[str, Path]:
    # The Hub's cache holds links to files named by digest: the name is the link's, the content its target's.
    return {p.name: p.resolve() for pattern in patterns for p in sorted(folder.glob(pattern)) if p.is_file()}
