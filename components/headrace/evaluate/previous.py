"""The run before this one, for the report: the model current where this one is to be published, else an earlier run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headrace.artifacts.files import parse_json
from headrace.artifacts.storage import Store, open_store
from headrace.errors import HeadraceError, InputError
from headrace.evaluate.shelf import read_pointer

log = logging.getLogger(__name__)

METRICS, LINEAGE = "metrics.json", "lineage.json"
STEP, RUN = "evaluate", "run-"


def find_previous(store: Store, output_dir: Path, version: str) -> dict[str, Any] | None:
    """Name, metrics and lineage of the run to compare with; None when there is none, or it cannot be read.

    The model that was promoted last at `store`, other than this one; with none there, for a folder of `headrace run`,
    the newest finished run beside it. Ask before publishing: that changes what is current.
    """
    try:
        return _promoted(store, version) or next(_runs_before(output_dir), None)
    except HeadraceError as error:  # a report without a comparison is still a report
        log.warning("the report compares with no earlier run: %s", error.message)
        return None


def _promoted(store: Store, version: str) -> dict[str, Any] | None:
    for promotion in reversed(read_pointer(store).promotions):
        place = store.child(promotion.version)
        if promotion.version != version and place.exists(METRICS):
            return {"name": promotion.version, "where": f"the model promoted last in {store.uri}", **_papers(place)}
    return None


def _runs_before(output_dir: Path) -> Iterator[dict[str, Any]]:
    """Finished runs beside the one that this step is of, the newest first: their names begin with their time."""
    here = output_dir.absolute().parent
    if output_dir.name != STEP or not here.name.startswith(RUN):
        return
    for folder in sorted(here.parent.glob(f"{RUN}*"), reverse=True):
        if folder.name < here.name and (folder / STEP / METRICS).is_file():
            where = "the run before in the same folder"
            yield {"name": folder.name, "where": where, **_papers(open_store(str(folder / STEP)))}


def _papers(place: Store) -> dict[str, Any]:
    found = {}
    for key, name in (("metrics", METRICS), ("lineage", LINEAGE)):
        value = parse_json(place.read(name), f"{place.uri}/{name}") if place.exists(name) else {}
        if not isinstance(value, dict):
            raise InputError(f"{place.uri}/{name} holds no object")
        found[key] = value
    return found
