"""What 1 to 512 ranks do to a hub or bucket, the manifest, commits and restarts: `python benchmarks/scaling.py`.

Requests are counted by walking the stream's own order over a dataset like FineWeb; manifests, ledgers and ranks that go
on are measured. `--page docs/scaling.md` puts the tables into that page, and the pictures beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import scaling_commits as commits
from benchmarks import scaling_measures as measures
from benchmarks.scaling_page import TABLES, draw
from benchmarks.scaling_ranks import load
from benchmarks.scaling_source import Shape
from headrace.stream.order import exact_world_sizes, largest_share

WORLD_SIZES = (1, 8, 64, 512)
LANES, GLOBAL_BATCH = 512, 1_024
FILLED = (1, 6, 8, 24, 48, 64, 96, 128, 192, 256, 320, 384, 448, 512)
MODELS = {"GPT-2 124M": 124e6, "1.5B": 1.5e9, "7B": 7e9}
COMMITS_PER_HOUR, STARTS = 4, 10
LINE_BYTES_PER_S = 1e9
RESUMED_STEP = 1_000
RESUMED = {True: {1: (0,), 8: (0,), 64: (0, 40), 512: (0, 200, 511)}, False: {8: (0,), 64: (0, 40), 512: (0, 200, 511)}}
"""Ranks of each world size that go on, where the manifest holds the row groups and where it does not."""
FOOTPRINTS = ((25, True), (200, True), (2_000, False), (25_000, False))
LEDGER_STEPS = 10_000


def filler(lanes: int, global_batch: int) -> list[dict[str, Any]]:
    """Share of a step's rows that are filler, by world size, with a micro-batch of 1 and of 2 rows."""
    exact = exact_world_sizes(global_batch, lanes)
    found = []
    for world_size in FILLED:
        most = largest_share(global_batch=global_batch, lanes=lanes, world_size=world_size)
        shares = [1 - global_batch / (world_size * batch * -(-most // batch)) for batch in (1, 2)]
        found.append({"world_size": world_size, "exact": world_size in exact, "filler": shares})
    return found


def commit_costs() -> list[dict[str, Any]]:
    """Every model and world size: objects, requests, bytes and seconds of a commit after some restarts."""
    found = []
    for name, parameters in MODELS.items():
        for world_size in WORLD_SIZES:
            files = commits.checkpoint(parameters, world_size=world_size, lanes=LANES)
            own = 2 * world_size
            requests = commits.commit(
                files, ledger=dict.fromkeys(map(str, range(own)), 0), all_ledger=STARTS * own, kept=3, prunes=1
            )
            found.append(
                {
                    "model": name, "world_size": world_size, "objects": len(files) + 1 + own,
                    "bytes": sum(files.values()), **requests,
                    "seconds": commits.seconds(files, requests, bytes_per_s=LINE_BYTES_PER_S),
                    "per_hour": COMMITS_PER_HOUR * sum(requests.values()) + 3_600 / commits.LEASE_S,
                }
            )  # fmt: skip
    return found


def simulated(shape: Shape, rate: float) -> dict[str, Any]:
    """Loads of all world sizes, with and without row groups in the manifest, and of files of one row group."""
    large = replace(shape, groups=1, rows=shape.groups * shape.rows)
    cases = [("known", shape, True), ("listed", shape, False), ("large", large, True)]
    found: dict[str, Any] = {}
    with tqdm(total=len(cases) * sum(WORLD_SIZES), unit="rank", desc="order") as bar:
        for name, layout, known in cases:
            found[name] = [
                load(layout, w, lanes=LANES, known=known, rate=rate, tell=bar.update).to_json() for w in WORLD_SIZES
            ]
    return found


def measured() -> dict[str, Any]:
    """Manifests, ledgers, and ranks that go on."""
    sizes = tqdm(FOOTPRINTS, desc="manifests")
    manifests = [measures.manifest(Shape(files=files), known=known) for files, known in sizes]
    ledgers = [measures.ledger(w, LEDGER_STEPS, LANES) for w in tqdm(WORLD_SIZES, desc="ledgers")]
    with tqdm(total=sum(len(r) for w in RESUMED.values() for r in w.values()), unit="rank", desc="going on") as bar:
        resumed = measures.resumes(LANES, RESUMED_STEP, RESUMED, bar.update)
    return {"manifests": manifests, "ledgers": ledgers, "resumed": resumed}


def figures(shape: Shape, rate: float) -> dict[str, Any]:
    """Everything, for `--json` and the page."""
    assumed = {f.name: getattr(shape, f.name) for f in fields(shape)}
    return {
        "assumed": {**assumed, "tokens_per_s": rate, "lanes": LANES, "global_batch": GLOBAL_BATCH},
        "environment": {"cores": os.cpu_count(), "python": platform.python_version()},
        **simulated(shape, rate), "filler": filler(LANES, GLOBAL_BATCH), "commits": commit_costs(), **measured(),
    }  # fmt: skip


def filled_in(page: str, found: dict[str, Any]) -> str:
    """The page with its tables made anew, each between `<!-- table NAME -->` and `<!-- end -->`."""
    return re.sub(
        r"(<!-- table (\w+) -->\n).*?(<!-- end -->)",
        lambda m: f"{m[1]}\n{TABLES[m[2]](found)}\n{m[3]}",
        page,
        flags=re.DOTALL,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--from_json", type=Path, help="figures made before, to lay out anew")
    parser.add_argument("--page", type=Path, help="the page whose tables are made anew")
    parser.add_argument("--markdown", action="store_true", help="print the tables")
    parser.add_argument("--tokens_per_s", type=float, default=20_000.0, help="of a rank (default %(default)s)")
    for field in fields(Shape):
        parser.add_argument(
            f"--{field.name}", type=type(field.default), default=field.default, help="default %(default)s"
        )
    args = parser.parse_args()
    if args.from_json:
        found = json.loads(args.from_json.read_text())
    else:
        found = figures(Shape(**{f.name: getattr(args, f.name) for f in fields(Shape)}), args.tokens_per_s)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    if args.page:
        args.page.write_text(filled_in(args.page.read_text(), found))
        draw(found, args.page.parent)
    if args.markdown or not (args.json or args.page):
        for name, make in TABLES.items():
            print(f"## {name}\n\n{make(found)}")


if __name__ == "__main__":
    main()
