"""What accelerators have and can do: a table that ships, a file of one's own, or this machine's CPU, measured."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from headrace.errors import InputError
from headrace.options.bounds import MOST
from headrace.options.parse import read_config

CPU = "cpu"
RATES = ("bf16", "fp16", "tf32", "fp32")
CPU_MFU = (0.25, 0.75)
"""Share of the matrix product's rate that trainings of small models reach where little else runs: performance.md."""
MEASURED_S, MATRIX = 1.0, 512


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """One accelerator. peak_flops: operations a second by precision, only those it has; mfu: low and high share."""

    name: str
    says: str
    memory_bytes: int
    peak_flops: Mapping[str, float]
    mfu: tuple[float, float]
    source: str

    @property
    def accelerator(self) -> bool:
        """Whether it has memory of its own, apart from the processes'."""
        return self.name != CPU

    def peak(self, precision: str) -> float:
        """Operations a second in a precision; InputError when it has none."""
        if precision not in self.peak_flops:
            raise InputError(
                f"{self.says}: it has no {precision}, only {', '.join(self.peak_flops)}",
                "choose the precision with --bf16 false, --fp16 or --tf32",
            )
        return self.peak_flops[precision]


@cache
def _table() -> dict[str, dict[str, Any]]:
    loaded = yaml.safe_load(files("headrace.forecast").joinpath("hardware.yaml").read_text("utf-8"))
    defaults = loaded.pop("defaults")
    return {name: {**defaults, **entry} for name, entry in loaded.items()}


def names() -> list[str]:
    """The hardware that is known by name."""
    return [*_table(), CPU]


def find(named: str | None) -> Hardware:
    """The hardware of a name or a YAML file; InputError with the names there are."""
    known = f"known are {', '.join(names())}; or name a YAML file with the fields of such an entry (docs/planning.md)"
    if not named:
        raise InputError("--hardware is missing: what to train on", known)
    if named.lower() == CPU:
        return this_cpu()
    if named.lower() in _table():
        return _parse(named.lower(), _table()[named.lower()])
    if not Path(named).is_file():
        raise InputError(f"--hardware is {named!r}; there is neither such an entry nor such a file", known)
    entry = read_config(named)
    return _parse(Path(named).stem, {**_defaults(), **entry})


def _defaults() -> dict[str, Any]:
    return {"mfu": next(iter(_table().values()))["mfu"], "says": "", "source": "given by the user"}


def _parse(name: str, entry: Mapping[str, Any]) -> Hardware:
    known = {"says", "source", "memory_gb", "mfu", *(f"{r}_tflops" for r in RATES)}
    if unknown := sorted(set(entry) - known):
        raise InputError(f"--hardware {name}: unknown field {unknown[0]}", f"fields are {', '.join(sorted(known))}")
    numbers = {k: v for k, v in entry.items() if k == "memory_gb" or k.endswith("_tflops")}
    mfu = entry["mfu"]
    pair = isinstance(mfu, list) and len(mfu) == 2 and all(map(_positive, mfu)) and mfu[0] <= mfu[1] <= 1
    if not all(map(_positive, numbers.values())) or "memory_gb" not in numbers or len(numbers) < 2 or not pair:
        raise InputError(
            f"--hardware {name}: expected memory_gb and at least one of {', '.join(f'{r}_tflops' for r in RATES)} "
            "above 0, and mfu as [low, high] between 0 and 1",
            "docs/planning.md has an example",
        )
    return Hardware(
        name=name,
        says=str(entry["says"]) or name,
        memory_bytes=int(entry["memory_gb"] * 1e9),
        peak_flops={r: entry[f"{r}_tflops"] * 1e12 for r in RATES if f"{r}_tflops" in entry},
        mfu=(mfu[0], mfu[1]),
        source=str(entry["source"]),
    )


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MOST


def this_cpu(seconds: float = MEASURED_S) -> Hardware:
    """The CPU of this machine: its memory, and the rate of a float32 matrix product, measured."""
    flops = matrix_flops(seconds)
    return Hardware(
        name=CPU,
        says="this machine's CPU",
        memory_bytes=_memory(),
        peak_flops={"fp32": flops},
        mfu=CPU_MFU,
        source=f"a float32 matrix product of {MATRIX}², measured now",
    )


def _memory() -> int:
    """Bytes of this machine, or of the container that this runs in where it is limited."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else ""
    return min(physical, int(text)) if text.isdigit() else physical


def matrix_flops(seconds: float) -> float:
    """Operations a second of numpy's float32 matrix product, the fastest of those that fit into the time.

    Uses as many threads as numpy does: set OMP_NUM_THREADS as the training has it. A mean would hold what other
    programs take of the machine just now, which says nothing of later.
    """
    a = np.full((MATRIX, MATRIX), 0.5, np.float32)
    b, out = a.copy(), np.empty_like(a)
    np.matmul(a, b, out=out)
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        begun = time.perf_counter()
        np.matmul(a, b, out=out)
        best = min(best, time.perf_counter() - begun)
    return 2.0 * MATRIX**3 / best
