"""How long validating a long listing takes: `python benchmarks/survey.py --json FILE [--files 25000]`.

25,000 Parquet files (names of one file, by hard links) in a dataset of the tests' own Hub server on this machine, which
`headrace validate` looks at through HTTP: `first` with nothing known, `again` with its footers kept from before, and
`resumed` after a SIGKILL when half of the footers were read. Every run is a fresh process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

NAME, ROW_GROUPS, ROWS = "bench/listing", 10, 1_000
WATCHED_S = 0.2


def make(root: Path, files: int) -> None:
    """A dataset repository of so many names of one file."""
    folder = root / "datasets" / NAME / "data"
    folder.mkdir(parents=True)
    words = ["water", "mill", "race", "wheel", "gate", "stone", "flour", "bucket", "ditch", "miller"]
    texts = [" ".join(words[(i * k) % 10] for k in range(1, 60)) + f" {i}" for i in range(ROWS)]
    table = pa.table({"text": texts, "language": ["en"] * ROWS, "score": [i / ROWS for i in range(ROWS)]})
    first = folder / "train-00000.parquet"
    pq.write_table(table, first, row_group_size=ROWS // ROW_GROUPS, compression="zstd")
    for i in range(1, files):
        os.link(first, folder / f"train-{i:05}.parquet")


def validate(env: dict[str, str], output: Path, cache: Path, kill_at: float = 0.0) -> dict[str, float]:
    """Seconds, peak memory and requests of one validation; killed when this share of the footers was read."""
    command = [
        sys.executable, "-m", "headrace.validate", "--dataset_name", NAME, "--output_dir", str(output),
        "--model_name_or_path", str(ROOT / "examples" / "tiny-gpt2"), "--manifest_cache", str(cache),
        "--validate_rows", "2000",
    ]  # fmt: skip
    began = time.monotonic()
    with (output.parent / f"{output.name}.log").open("w") as log:
        child = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        peak = 0
        while child.poll() is None:
            time.sleep(WATCHED_S)
            peak = max(peak, memory_of(child.pid))
            if kill_at and progress_of(output) >= kill_at:
                child.send_signal(signal.SIGKILL)
    if child.wait() not in (0, 3) and not kill_at:  # copies of one file are a no-go, of course
        raise SystemExit((output.parent / f"{output.name}.log").read_text())
    return {"seconds": time.monotonic() - began, "peak_rss_mb": peak / 1e6}


def memory_of(pid: int) -> int:
    """Bytes of memory that a process has taken at most; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)


def progress_of(output: Path) -> float:
    """The share of the footers that were read."""
    try:
        progress = json.loads((output / "progress.json").read_text())
    except (OSError, ValueError):
        return 0.0
    return progress["done"] / progress["total"] if progress["phase"] == "footers" else 0.0


def measure(files: int, work: Path) -> dict[str, Any]:
    """All runs over one listing."""
    from tests.servers.hub import HubServer

    make(work / "hub", files)
    found: dict[str, Any] = {"files": files, "row_groups": files * ROW_GROUPS, "runs": {}}
    with HubServer(work / "hub") as hub:
        env = {**os.environ, **hub.env(work / "home"), "OMP_NUM_THREADS": "1"}
        plan = (("first", "a", 0.0), ("again", "a", 0.0), ("killed", "b", 0.5), ("resumed", "b", 0.0))
        for name, cache, kill_at in plan:
            hub.requests.clear()
            run = validate(env, work / name, work / "cache" / cache, kill_at)
            found["runs"][name] = {**run, "requests": len(hub.requests)}
            print(name, found["runs"][name], file=sys.stderr)
    found["load"] = os.getloadavg()[2]
    found["server_cpu_s"] = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    found["manifest_bytes"] = (work / "first" / "manifest.json").stat().st_size
    found["kept_bytes"] = sum(p.stat().st_size for p in (work / "cache" / "a").iterdir())
    return {"survey": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--files", type=int, default=25_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-survey-") as work:
        args.json.write_text(json.dumps(measure(args.files, Path(work)), indent=2) + "\n")


if __name__ == "__main__":
    main()
