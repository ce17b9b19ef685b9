"""What Headrace costs a training, as ratios in one run: `python benchmarks/training.py --json FILE`.

`overhead`: step time of `headrace train` ÷ that of a bare loop over the same micro-batches, kept in memory, and the
share of it spent in waiting for data. `pause`: how long training stands still for a checkpoint, committed in the
background and committed before it goes on, to a store behind a slow line. `resume`: seconds from the start of the
process to the first new optimizer step. Every measurement is a fresh process with one thread, all but `resume` on one
core, in turns; medians.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

BLOCK, BATCH, STEPS, WARM = 256, 4, 60, 10
LINE_BYTES_PER_S = 10e6
CONFIG = {
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 4096, "n_positions": BLOCK,
    "n_embd": 192, "n_layer": 3, "n_head": 6, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0,
    "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip


def model_folder(work: Path) -> Path:
    """A GPT-2 of 2 million parameters with the shipped tokenizer; no weights."""
    folder = work / "model"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "examples" / "tiny-gpt2" / name, folder / name)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def flags(work: Path, corpus: Path, **more: Any) -> dict[str, Any]:
    """A training on the corpus."""
    return {
        "dataset_name": str(corpus / "data"), "model_name_or_path": str(work / "model"), "init_from_config": True,
        "per_device_train_batch_size": BATCH, "max_steps": STEPS, "logging_steps": WARM,
        "save_strategy": "no", "disable_tqdm": True, "torch_threads": 1, "commit_every_s": 0, **more,
    }  # fmt: skip


def train(**values: Any) -> list[dict[str, Any]]:
    """Train in this process; the entries of the log that have a loss, the first left out as a warm-up."""
    from headrace.entry import run_component
    from headrace.options import parse_mapping
    from headrace.train.step import run

    out = Path(values["output_dir"])
    run_component(run, parse_mapping(values), out)
    log = json.loads((out / "trainer_state.json").read_text())["log_history"]
    return [entry for entry in log if "loss" in entry][1:]


def headrace(work: Path, corpus: Path) -> dict[str, float]:
    """Seconds a step of `headrace train`, and the share of them spent in waiting for data."""
    log = train(**flags(work, corpus, output_dir=tempfile.mkdtemp(dir=work)))
    return {
        "step_s": statistics.mean(e["step_s"] for e in log),
        "data_wait": statistics.mean(e["data_wait"] for e in log),
    }


def bare(work: Path, corpus: Path) -> dict[str, float]:
    """Seconds a step of the shortest loop that trains the same on the same micro-batches, which lie in memory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from headrace import inputs
    from headrace.options import parse_mapping
    from headrace.stream.batches import RankStream
    from headrace.stream.feed import EVERYTHING
    from headrace.train.batches import Batches

    torch.set_num_threads(1)
    values = flags(work, corpus)
    options = parse_mapping({k: values[k] for k in ("dataset_name", "model_name_or_path")})
    reader, encoder = inputs.open_reader(options, inputs.open_manifest(options)), inputs.open_encoder(options)
    plan = inputs.open_plan(options, reader, encoder, None, EVERYTHING, block=BLOCK, global_batch=BATCH)
    stream = RankStream(plan, reader.shards, inputs.open_feed(reader, encoder, EVERYTHING), batch=BATCH)
    batches = list(islice(Batches(stream, torch.device("cpu")), STEPS))
    stream.close()
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(work / "model")).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)
    began = 0.0
    for i, batch in enumerate(batches):
        if i == WARM:
            began = time.perf_counter()
        model(**batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return {"step_s": (time.perf_counter() - began) / (STEPS - WARM)}


def pauses(work: Path, corpus: Path, *, wait: bool) -> dict[str, float]:
    """Seconds that training stands still for a checkpoint; `wait`: it goes on only when the checkpoint is committed."""
    from headrace.train.committer import Committer

    if wait:
        submit = Committer.submit

        def and_wait(self: Committer, step: int, work: Callable[[], object]) -> None:
            submit(self, step, work)
            self.wait()

        Committer.submit = and_wait  # type: ignore[method-assign]
    out = tempfile.mkdtemp(dir=work)
    log = train(
        **flags(work, corpus, output_dir=out, store=os.environ["BENCHMARK_STORE"] + Path(out).name,
                save_strategy="steps", save_steps=20)
    )  # fmt: skip
    paused = [e["commit_pause_s"] for e in log if e["commit_pause_s"] > 0]
    return {"pause_s": statistics.mean(paused), "step_s": statistics.mean(e["step_s"] for e in log)}


def restart(work: Path, corpus: Path) -> dict[str, float]:
    """Seconds from the start of a process that goes on from a checkpoint to its first new optimizer step, in parts."""
    out = tempfile.mkdtemp(dir=work)
    values = flags(work, corpus, output_dir=out, save_strategy="steps", save_steps=10)
    command = [sys.executable, "-m", "headrace.train", *(w for k, v in values.items() for w in (f"--{k}", str(v)))]
    found: dict[str, float] = {}
    for wanted in ("the commit to go on from", "the measurement"):
        began = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if "the first of this start" in line:
                found = {"total": time.perf_counter() - began}
                found |= {k: float(v) for k, v in re.findall(r"(set-up|data|model|first step) ([\d.]+)", line)}
                break
        else:
            sys.exit(f"benchmark: no step was done for {wanted}")
        while wanted == "the commit to go on from" and not list(Path(out).glob("checkpoint-*/commit.json")):
            time.sleep(0.1)
        process.kill()
        process.wait()
        process.stderr.close()
    parts = sum(v for k, v in found.items() if k != "total")
    return {**found, "imports": found["total"] - parts}


MEASURES: dict[str, Callable[[Path, Path], dict[str, float]]] = {
    "headrace": headrace,
    "bare": bare,
    "background": lambda work, corpus: pauses(work, corpus, wait=False),
    "waiting": lambda work, corpus: pauses(work, corpus, wait=True),
}


def in_process(name: str, work: Path, corpus: Path, store: str) -> dict[str, float]:
    """What a fresh process of this script, pinned to one core, measures."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "BENCHMARK_STORE": store}
    command = ["taskset", "-c", str(max(os.sched_getaffinity(0))), sys.executable, __file__, "--measure", name]
    done = subprocess.run(
        [*command, "--work", str(work), "--corpus", str(corpus)], env=env, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"benchmark: {name} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"  {name:12s} {found}", file=sys.stderr)
    return found


def run(corpus: Path, repeats: int) -> dict[str, Any]:
    """All figures: `runs` of each measure, and the medians of ratios of runs beside each other."""
    import corpus as corpora

    from tests.servers.faultproxy import FaultProxy
    from tests.servers.gcs import GcsServer

    corpora.make(corpus)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in [*MEASURES, "restart"]}
    with (
        tempfile.TemporaryDirectory() as folder,
        GcsServer() as server,
        FaultProxy(server.url, bytes_per_s=LINE_BYTES_PER_S) as line,
    ):
        work = Path(folder)
        model_folder(work)
        server.create_bucket("bench")
        os.environ.update(server.env(endpoint=line.url))
        for _ in range(repeats):
            for name in MEASURES:
                runs[name].append(in_process(name, work, corpus, "gs://bench/"))
            runs["restart"].append(restart(work, corpus))
            print(f"  {'restart':12s} {runs['restart'][-1]}", file=sys.stderr)

    def ratio(a: str, b: str, what: str) -> float:
        return statistics.median(x[what] / y[what] for x, y in zip(runs[a], runs[b], strict=True))

    return {
        "runs": runs,
        "overhead": ratio("headrace", "bare", "step_s"),
        "data_wait": statistics.median(r["data_wait"] for r in runs["headrace"]),
        "pause": ratio("background", "waiting", "pause_s"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--corpus", type=Path, default=Path("benchmarks/.corpus"), help="where the corpus is kept")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", choices=list(MEASURES), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(MEASURES[args.measure](args.work, args.corpus)))
        sys.stdout.flush()
        os._exit(0)  # reader threads need not be waited for
    found = run(args.corpus, args.repeats)
    if args.json:
        args.json.write_text(json.dumps({"training": found}, indent=2) + "\n")
    print(json.dumps({k: v for k, v in found.items() if k != "runs"}, indent=2))


if __name__ == "__main__":
    main()
