"""One process of a training on several nodes, as torchrun starts it: `python -m headrace.train.node STORE NAME`.

Flags and small inputs come from `jobs/NAME` of the store, where rank 0 leaves how it ended.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from headrace.artifacts.checkpoint import COMMIT
from headrace.artifacts.files import parse_json
from headrace.artifacts.outcome import OUTCOME
from headrace.artifacts.storage import LocalStore, Store, open_store
from headrace.entry import explain, leave, ready
from headrace.errors import HeadraceError
from headrace.train.__main__ import main as train
from headrace.train.pods import SECRETS

FLAGS, INPUTS, FINDINGS = "flags.json", ("manifest", "heldout", "duplicates"), "validation.json"
"""What lies in a job's folder: flags by name; files, each under its flag's name; validation's report."""


def job_folder(store: Store, name: str) -> Store:
    """Where launcher and pods leave files for each other."""
    return store.child("jobs", name)


def main(argv: Sequence[str] | None = None) -> int:
    """Train as one rank; its exit code."""
    uri, name = sys.argv[1:] if argv is None else argv
    try:
        _take_secrets(Path(SECRETS))
        store = open_store(uri)
        output_dir = _output_dir(store, name)
        with tempfile.TemporaryDirectory(prefix="headrace-job-") as scratch:
            return _train(job_folder(store, name), Path(scratch), output_dir)
    except HeadraceError as error:
        return explain(error)


def _take_secrets(folder: Path) -> None:
    for path in folder.glob("*/*"):
        if path.is_file():
            os.environ.setdefault(path.name, path.read_text().strip())


def _output_dir(store: Store, name: str) -> Path:
    """On a volume that all nodes mount, the store itself; else a folder of this node, for all ranks on it."""
    return store.folder if isinstance(store, LocalStore) else Path(tempfile.gettempdir()) / "headrace" / name


def _train(folder: Store, scratch: Path, output_dir: Path) -> int:
    first = os.environ.get("RANK", "0") == "0"
    flags = dict(parse_json(folder.read(FLAGS), f"{folder.uri}/{FLAGS}"))
    for name in INPUTS:
        if name in flags:
            flags[name] = str(scratch / name)
            if first:  # it alone looks at the source
                folder.download_file(name, scratch / name)
    if first:
        for place in (folder, LocalStore(output_dir)):  # of an earlier start, or of another run in the same store
            place.delete(OUTCOME)
        ready(output_dir)
        if not (output_dir / COMMIT).is_file():
            folder.download_file(FINDINGS, output_dir / FINDINGS)
    config = scratch / FLAGS
    config.write_text(json.dumps({**flags, "output_dir": str(output_dir)}))
    code = train(["--config", str(config)])
    if first and (output_dir / OUTCOME).is_file():
        folder.upload_file(output_dir / OUTCOME, OUTCOME)
    return code


if __name__ == "__main__":
    leave(main())
