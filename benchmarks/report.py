"""The page of figures, from what the others wrote: `python benchmarks/report.py FILE... -o docs/performance.md`."""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

from tabulate import tabulate

WHAT = {
    "reference": "the usual path: `datasets` map tokenise, map group_texts, default collator",
    "headrace": "Headrace, as `headrace train` opens it",
    "limit": "the tokenizer alone, on the same strings in memory",
    "tokenizers": "Headrace with the fast tokenizer switched off",
    "http": "the files of `grown-4000` over HTTP: 100 ms a request, 200 Mbit/s a connection",
    "rare": "Headrace on words of random letters",
    "rare-limit": "the tokenizer alone on words of random letters",
    "grown-4": "Headrace, 4 files of 15 MB of text",
    "grown-4000": "Headrace, 4,000 files of 15 MB of text",
    "files-4000-small": "Headrace, 4,000 files of 15 kB of text",
    "row-groups-128MB": "Headrace, 64 row groups of 128 MB of text, 64 lanes",
    "row-groups-128MB-shared": "Headrace, 8 row groups of 128 MB of text shared by 64 lanes",
    "listing": "Headrace, 25,000 files of 1,000 row groups each, without a manifest",
    "arrow": "`datasets` on blocks tokenised to Arrow before",
    "litdata": "LitData on tokens written before",
    "mds": "MosaicML streaming on blocks written before",
}
INTRODUCTION = """# Performance

Figures of the stream: how fast tokens come, beside the usual path and beside the tokenizer alone; what a restart
costs; memory; how well batches mix. Then what a training pays for being safe, what scoring costs, and how wrong plans
of trainings were. They hold for one machine and are made anew by

```sh
python benchmarks/stream.py --all --json stream.json && python benchmarks/shuffle.py --json shuffle.json
python benchmarks/training.py --json training.json && python benchmarks/scoring.py --json scoring.json
python benchmarks/survey.py --json survey.json && python benchmarks/planning.py --json planning.json
python benchmarks/report.py stream.json shuffle.json training.json scoring.json survey.json planning.json \\
    -o docs/performance.md
```

Each path runs in a fresh process pinned to one core, interleaved with the others; medians, with the lowest and highest
run. The corpus is real text from Debian packages, the tokenizer GPT-2's byte-pair encoding; blocks have 1,024 tokens,
micro-batches 8 blocks. `make bench` measures the first four paths alone.
"""


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A table in Markdown."""
    return str(tabulate(rows, head, tablefmt="github", disable_numparse=True)) + "\n"


def speeds(paths: dict[str, Any]) -> str:
    """Every path: speed, and as multiples of the reference and of the limit."""

    def middle(name: str) -> float:
        return statistics.median(paths[name]["tokens_per_s"])

    rows = []
    for name, found in paths.items():
        runs = [r / 1e6 for r in found["tokens_per_s"]]
        rows.append(
            [
                f"`{name}`", WHAT[name], f"{statistics.median(runs):.2f}", f"{min(runs):.2f}-{max(runs):.2f}",
                f"{middle(name) / middle('reference'):.1f}", f"{middle(name) / middle('limit'):.2f}",
                f"{found['peak_rss_mb']:,.0f}", f"{found['first_batch_s']:.1f}",
            ]
        )  # fmt: skip
    head = ["path", "what", "M tokens/s", "runs", "x reference", "of limit", "peak MB", "first batch s"]
    return table(head, rows)


def training(found: dict[str, Any]) -> str:
    """What training costs beside its steps."""
    runs = found["runs"]

    def row(what: str, name: str, value: str, form: str = ".3f") -> list[str]:
        values = [r[value] for r in runs[name]]
        spread = f"{min(values):{form}} to {max(values):{form}}"
        return [what, f"{statistics.median(values):{form}}", spread]

    rows = [
        row("step of `headrace train`, s", "headrace", "step_s"),
        row("step of a bare loop on the same micro-batches in memory, s", "bare", "step_s"),
        row("share of a step spent in waiting for data", "headrace", "data_wait", ".5f"),
        row("pause for a checkpoint committed in the background, s", "background", "pause_s"),
        row("pause for a checkpoint committed before training goes on, s", "waiting", "pause_s"),
        row("from process start to the first new step after a SIGKILL, s", "restart", "total", ".1f"),
        *(
            row(f"of that, {what}, s", "restart", name, ".1f")
            for name, what in (
                ("imports", "starting Python and torch"),
                ("set-up", "flags, tokenizer, transformers"),
                ("data", "choosing and checking the checkpoint, the plan"),
                ("model", "the model"),
                ("first step", "optimizer, stream, the step itself"),
            )
        ),
    ]
    return (
        "## Training\n\nA GPT-2 of 2 million parameters, 1,024 tokens a step, one core (a restart may use any); the "
        "checkpoints go to an object store behind a line of 10 MB/s. Medians, lowest and highest run.\n\n"
        + table(["what", "median", "runs"], rows)
        + f"\nOf runs beside each other: a step takes {found['overhead']:.3f} of the bare loop's, a pause "
        f"{found['pause']:.3f} of one that waits for the commit.\n"
    )


def scoring(found: dict[str, Any]) -> str:
    """What scoring costs beside its forward passes, and its memory."""

    def row(what: str, name: str) -> list[str]:
        values = [1e3 * r["s_per_token"] for r in found["runs"][name]]
        return [what, f"{statistics.median(values):.3f}", f"{min(values):.3f} to {max(values):.3f}"]

    rows = [
        row("scoring documents", "headrace"),
        row("the forward passes alone, on the same micro-batches", "bare"),
        row("`Trainer.evaluate` with the reference recipe's compute_metrics, on the same text", "trainer"),
    ]
    ratios, memory = found["ratios"], found["memory"]
    return (
        "## Scoring\n\nA model of GPT-2's size (124 million parameters), 24 documents of real text of 125 to 3,000"
        " characters, one core; milliseconds of the processor a token. 8 % of the positions are padding, which"
        " `Trainer.evaluate` has none of: it drops what fills no block. Of a slice of many documents it is under 1 %."
        "\n\n"
        + table(["what", "median", "runs"], rows)
        + f"\nOf runs beside each other: scoring takes {ratios['headrace/bare']:.3f} of the forward passes alone and "
        f"{ratios['headrace/trainer']:.3f} of `Trainer.evaluate`. At a vocabulary of 150,000 scoring 4 windows of 1,024"
        f" tokens adds {memory['grown_mb']:.0f} MB; whole logits would take {memory['whole_logits_mb']:,.0f} MB.\n"
    )


def survey(found: dict[str, Any]) -> str:
    """What validating a long listing takes."""
    what = {
        "first": "nothing known",
        "again": "its footers kept from before",
        "killed": "killed when half of the footers were read",
        "resumed": "again after that",
    }
    rows = [
        [what[name], f"{run['seconds']:.0f}", f"{run['peak_rss_mb']:,.0f}", f"{run['requests']:,}"]
        for name, run in found["runs"].items()
    ]
    return (
        f"## A long listing\n\n`headrace validate` of {found['files']:,} Parquet files with {found['row_groups']:,} "
        "row groups on the tests' own Hub server on the same machine, through HTTP, 2,000 rows looked at. The server "
        f"took {found['server_cpu_s']:.0f} s of a core in all; the machine's load was {found['load']:.0f}.\n\n"
        + table(["validation", "seconds", "peak MB", "requests"], rows)
        + f"\nThe footers kept take {found['kept_bytes'] / 1e6:.1f} MB, the manifest "
        f"{found['manifest_bytes'] / 1e6:.1f} MB.\n"
    )


def planning(cases: dict[str, Any]) -> str:
    """How wrong `headrace plan` was."""
    rows = []
    for case in cases.values():
        found = {row["name"]: row for row in case["rows"]}
        exact = [f"{100 * found[name]['error']:+.1f} %" for name in ("tokens", "steps", "checkpoint_bytes")]
        peak, step = found["peak_memory_bytes"], found["step_s"]
        memory = [_range(peak, ",.0f", 1e6), f"{peak['measured'] / 1e6:,.0f}", f"{100 * peak['error']:+.0f} %"]
        own = step["measured"] * case["core_share"]
        middle = math.sqrt(step["predicted"][0] * step["predicted"][1])
        pace = [_range(step, ".2f", 1.0), f"{step['measured']:.2f}", f"{100 * step['error']:+.0f} %",
                f"{case['core_share']:.2f}", f"{100 * (middle / own - 1):+.0f} %"]  # fmt: skip
        rows.append([case["what"], *exact, *memory, *pace])
    head = ["training", "tokens", "steps", "checkpoint", "peak MB, planned", "measured", "error", "step s, planned",
            "measured", "error", "share of the core", "error of CPU time"]  # fmt: skip
    return (
        "## Plans of trainings\n\n`headrace plan --hardware cpu` before, `headrace plan --score` after, one core, "
        "float32. The first three columns are errors; those of a range are of its geometric middle. A plan is for a "
        "machine with nothing else to do: where others took part of the core (the share is of the whole process, its "
        "start included), the error of CPU time is about the plan's own. On GPUs nothing of this was measured: the "
        "share of their peak and the time to start an operation are assumptions, and their memory is from the bytes "
        "that autograd saves, counted on a CPU.\n\n" + table(head, rows)
    )


def _range(row: dict[str, Any], form: str, scale: float) -> str:
    low, high = (v / scale for v in row["predicted"])
    return f"{low:{form}} to {high:{form}}"


def sections(found: dict[str, Any], picture: str) -> list[str]:
    """The page, part by part, of what there are figures for."""
    ratios, text = found["ratios"], f"{found['corpus']['text_bytes'] / 1e6:.0f} MB"
    rare = ""
    if "rare" in found["paths"]:
        own, alone = (statistics.median(found["paths"][n]["tokens_per_s"]) for n in ("rare", "rare-limit"))
        rare = f" Where words hardly repeat, the stream runs at {own / alone:.2f} of the tokenizer's speed."
    parts = [
        INTRODUCTION,
        f"## Tokens per second\n\n![Tokens per second of each path]({picture})\n",
        speeds(found["paths"]),
        f"Of runs beside each other: {ratios['headrace/reference']:.1f} times the reference, "
        f"{ratios['headrace/limit']:.2f} of the limit, without the fast tokenizer "
        f"{ratios['tokenizers/reference']:.2f} times the reference.\n",
        "The limit is beyond reach on this text: a fast tokenizer remembers words, and technical text repeats them, so "
        "that a block costs it no more than reading the block from Parquet and laying it out as tensors."
        f"{rare} Time to the first batch is from the start of the process, imports included.\n",
        "## Going on after a stop\n\nSeconds to the first batch from a state at a step, all imports done; the "
        "reference reads and tokenises everything before again.\n",
        table(["step", "Headrace"], [[k, f"{v:.2f}"] for k, v in found["resume"].items()]),
    ]
    if found.get("replay"):
        parts.append(table(["step", "reference"], [[k, f"{v:.2f}"] for k, v in found["replay"].items()]))
    if found.get("shuffle"):
        parts += [
            "## How well batches mix\n\nThe variance of the count of a source in a global batch of 512, as a multiple "
            "of drawing at random, where each of 100 files is of one source.\n",
            table(["order", "variance"], [[k, f"{v:.2f}"] for k, v in found["shuffle"].items()]),
        ]
    if found.get("prepared"):
        parts += [
            "## What prepared formats cost first\n",
            table(
                ["format", "seconds", "MB on disk"],
                [[k, f"{v['seconds']:.1f}", f"{v['bytes'] / 1e6:.0f}"] for k, v in found["prepared"].items()],
            ),
        ]
    if found.get("listing"):
        size = found["listing"]["manifest_bytes"] / 1e6
        parts.append(f"The manifest of the listing of 25,000 files takes {size:.1f} MB on disk.\n")
    if found.get("training"):
        parts.append(training(found["training"]))
    if found.get("scoring"):
        parts.append(scoring(found["scoring"]))
    if found.get("survey"):
        parts.append(survey(found["survey"]))
    if found.get("planning"):
        parts.append(planning(found["planning"]))
    environment = found["environment"]
    versions = ", ".join(f"{k} {v}" for k, v in environment["packages"].items())
    parts.append(
        f"## Where\n\n{environment['cpu']}, {environment['cores']} cores, one used; Python {environment['python']}, "
        f"{versions}. Corpus: {found['corpus']['documents']:,} documents, {text}.\n"
    )
    return parts


def draw(paths: dict[str, Any], file: Path) -> None:
    """A bar a path, by speed; Headrace's own in one colour, what it stands beside in grey."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "headrace", "font.size": 9})
    import matplotlib.pyplot as plt

    beside = {"reference", "limit", "rare-limit", "arrow", "litdata", "mds"}
    middle = {n: statistics.median(p["tokens_per_s"]) / 1e6 for n, p in paths.items()}
    names = sorted(middle, key=lambda n: middle[n])
    figure, axes = plt.subplots(figsize=(7.5, 0.32 * len(names) + 0.9))
    bars = axes.barh(names, [middle[n] for n in names], color=["#9aa0a6" if n in beside else "#1f6feb" for n in names])
    axes.bar_label(bars, [f"{middle[n]:.1f}" for n in names], padding=3)
    axes.set_xscale("log")
    axes.set_xlabel("million tokens a second, one core (log scale)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(right=max(middle.values()) * 1.6)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for path in args.figures:
        found |= json.loads(path.read_text())
    picture = args.output.with_suffix(".svg")
    draw(found["paths"], picture)
    args.output.write_text("\n".join(sections(found, picture.name)))


if __name__ == "__main__":
    main()
