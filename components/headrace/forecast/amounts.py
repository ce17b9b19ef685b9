"""What validate's report says of the data, and how much of it a training wants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from headrace.artifacts.files import read_json
from headrace.errors import InputError
from headrace.forecast.memory import Range
from headrace.options import Options, training_value
from headrace.options.bounds import MOST
from headrace.stream.batches import MOST_WINDOWS_AHEAD
from headrace.stream.manifest import Manifest
from headrace.stream.order import SEGMENT_FILES, WINDOW_BYTES, default_lanes

REPORT_VERSION = 2
"""The version of the report that is read here, as `validate` writes it."""
_NEEDED: Mapping[str, Mapping[str, type | UnionType]] = {
    "dataset": {
        "name": str, "manifest_hash": str, "files": int, "row_groups": int, "rows": int, "text_bytes": int,
    },
    "tokenizer": {"name": str, "size": int},
    "model": {"name": str | None},
    "plan": {"lanes": int, "block": int, "global_batch": int, "mixture": list},
    "estimates": {
        "exact": bool, "tokens": int, "tokens_interval": list | None, "documents": int, "train_tokens": int,
    },
}  # fmt: skip
"""What of a report is reckoned with, and what it has to be."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """validate's `report.json`, and where it lies."""

    path: Path
    content: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.content[name]

    @property
    def data_tokens_per_s(self) -> float | None:
        """Tokens a second that a rank gets of the stream, where validate measured it."""
        measured = self.content.get("measured")
        found = measured.get("rank_tokens_per_s") if isinstance(measured, dict) else None
        return float(found) if isinstance(found, int | float) and 0 < found <= MOST else None


def read_report(named: str | None) -> Report:
    """The report of a file, or of a folder of `headrace validate`; InputError without one, or after a no-go."""
    if not named:
        raise InputError(
            "--report is missing: a plan stands on what validate found",
            "run `headrace validate … --output_dir checked` first, then add --report checked/report.json",
        )
    path = Path(named)
    path = path / "report.json" if path.is_dir() else path
    if not path.is_file():
        raise InputError(
            f"there is no report {path}", "run `headrace validate … --output_dir checked`; it writes report.json"
        )
    content = read_json(path)
    if not isinstance(content, dict) or not {"version", "verdict", "findings", *_NEEDED} <= set(content):
        raise InputError(f"{path} is no report of `headrace validate`", "name its report.json")
    if content["version"] != REPORT_VERSION:
        raise InputError(
            f"{path} is a report of version {content['version']}, expected {REPORT_VERSION}",
            "validate again with this version of Headrace, then plan",
        )
    if content["verdict"] == "no-go":
        raise InputError(f"{path} says no-go: {_why(content)}", "mend the dataset and validate again, then plan")
    if not content["plan"]:
        raise InputError(f"{path} has no plan: there is no row to train on", "validate another dataset")
    if (wrong := _misshapen(content)) is not None:
        raise InputError(
            f"{path} was changed: it has no usable {wrong}", "validate again, then plan; nobody writes a report by hand"
        )
    return Report(path=path, content=content)


def _why(content: Mapping[str, Any]) -> str:
    findings = content["findings"] if isinstance(content["findings"], list) else []
    found = (f for f in findings if isinstance(f, dict) and f.get("severity") == "no-go" and f.get("message"))
    return next((str(f["message"]).rstrip(".") for f in found), "see the report")


def _misshapen(content: Mapping[str, Any]) -> str | None:
    """The first field of a report that is missing or of another kind; None when all that is needed is there."""
    for part, needed in _NEEDED.items():
        if not isinstance(content[part], dict):
            return part
        for name, kind in needed.items():
            value = content[part].get(name)
            number = kind is int and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST)
            if name not in content[part] or number or not isinstance(value, kind):
                return f"{part}.{name}"
    plan, interval = content["plan"], content["estimates"]["tokens_interval"]
    for name in ("lanes", "block", "global_batch"):
        if plan[name] < 1:
            return f"plan.{name}"
    numbers = interval is None or (len(interval) == 2 and all(isinstance(n, int | float) for n in interval))
    return None if numbers else "estimates.tokens_interval"


def lanes_of(options: Options, report: Report, *, global_batch: int, block: int) -> tuple[int, str]:
    """Lanes of a run with this global batch and block, by the order's own rule, and what that stands on."""
    if options.dataset.lanes:
        return options.dataset.lanes, "--lanes"
    frozen, data = report["plan"], report["dataset"]
    if (frozen["global_batch"], frozen["block"]) == (global_batch, block):
        return int(frozen["lanes"]), "the report"
    path = Path(options.dataset.manifest or report.path.with_name("manifest.json"))
    largest, source = data["text_bytes"] // max(1, data["row_groups"]), "the mean size of a row group"
    if path.is_file():
        manifest = Manifest.from_json(read_json(path))
        if manifest.hash == data["manifest_hash"] and manifest.known:
            largest = max((g.text_bytes for f in manifest.files for g in f.known), default=0)
            source = "the manifest"
    lanes = default_lanes(
        global_batch=global_batch, block=block, rows=data["rows"], text_bytes=data["text_bytes"], largest_group=largest
    )
    return lanes, source


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """Tokens there are and tokens wanted. tokens_per_step: trained ones; filler and padding are not counted."""

    available: int
    interval: tuple[int, int] | None
    samples_per_epoch: int
    tokens_per_step: float
    steps: int
    wanted: int
    epochs: float
    read_requests: Range
    """Requests that reading this much takes over HTTP: opening files, and reads of row groups."""


def amounts(options: Options, report: Report, *, global_batch: int, block: int, lanes: int, ranks: int) -> Amounts:
    """How much is trained, by --max_steps or --num_train_epochs; InputError where the flags say neither rightly."""
    estimates = report["estimates"]
    available = int(estimates["train_tokens"])
    if available < 1:
        raise InputError(f"{report.path}: there is no token to train on", "validate another dataset")
    samples = available / block
    if not options.dataset.dataset_group_text:
        # A row holds one document's tokens; there are at least as many as documents that are not held out.
        samples = max(samples, estimates["documents"] * available / max(1, estimates["tokens"]))
    steps: int = training_value(options, "max_steps")
    epochs: float = training_value(options, "num_train_epochs")
    if steps == 0 or steps < -1:
        raise InputError(f"--max_steps is {steps}", "expected 1 or more (-1: by --num_train_epochs)")
    if steps == -1 and not epochs > 0:
        raise InputError(f"--num_train_epochs is {epochs}", "expected more than 0")
    if steps == -1 and report["plan"]["mixture"]:
        raise InputError(
            "--max_steps is not set; the sources of a mixture have no epoch in common", "say how many steps to train"
        )
    steps = steps if steps > 0 else max(1, math.ceil(epochs * samples / global_batch))
    per_step = global_batch * available / samples
    interval = estimates.get("tokens_interval")
    share = available / max(1, estimates["tokens"])
    return Amounts(
        available=available,
        interval=(round(interval[0] * share), round(interval[1] * share)) if interval else None,
        samples_per_epoch=round(samples), tokens_per_step=per_step, steps=steps, wanted=round(steps * per_step),
        epochs=steps * global_batch / samples,
        read_requests=_requests(report["dataset"], steps * global_batch / samples, lanes, ranks),
    )  # fmt: skip


def _requests(data: Mapping[str, Any], epochs: float, lanes: int, ranks: int) -> Range:
    """Every row group once, at least; at most a read more at each cut between lanes, and every rank opens every file.

    The stream has read ahead when a training ends: of small datasets up to two epochs, as counted on a server.
    """
    files, groups = data["files"], data["row_groups"]
    segments = max(1, -(-files // SEGMENT_FILES))
    ahead = min(2.0, lanes * (MOST_WINDOWS_AHEAD + 1) * WINDOW_BYTES / max(1, data["text_bytes"]))
    low = groups * epochs + files * min(1.0, epochs)
    return Range(low, (groups + lanes * segments + 2 * files * ranks) * (epochs + ahead) + files)
