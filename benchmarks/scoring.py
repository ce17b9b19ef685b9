"""What scoring costs beside its forward passes: `python benchmarks/scoring.py --json FILE`.

`headrace` scores documents as `headrace evaluate` does; `bare` runs the model over the same micro-batches and looks at
nothing; `trainer` is `Trainer.evaluate` with the reference recipe's preprocess_logits_for_metrics and compute_metrics,
on the same documents cut into blocks. Every run is a fresh process with one thread on one core, in turns: seconds of
the processor, medians of ratios within a turn. `memory`: how far scoring 4 windows of 1,024 tokens at a vocabulary of
150,000 goes beyond its model.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

BLOCK, BATCH, CHARACTERS, DOCUMENTS = 512, 4, 3_000, 24
CONFIG: dict[str, Any] = {
    "vocab_size": 50_257, "n_positions": BLOCK, "n_embd": 768, "n_layer": 12, "n_head": 12,
    "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
PATHS = ("headrace", "bare", "trainer")


def material() -> tuple[Any, Any, list[str]]:
    """A model of GPT-2's size (124 million parameters), the shipped tokenizer, real documents of unequal length."""
    import pyarrow.parquet as pq
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from headrace.stream.tokenizer import load_encoder

    torch.set_num_threads(1)
    torch.manual_seed(0)
    files = sorted((ROOT / "examples" / "pydocs").rglob("*.parquet"))
    texts = [t for f in files for t in pq.read_table(f, columns=["text"]).column("text").to_pylist()][:DOCUMENTS]
    model = GPT2LMHeadModel(GPT2Config(**CONFIG)).eval()
    return model, load_encoder(str(ROOT / "examples" / "tiny-gpt2")), [
        text[: CHARACTERS * (1 + i) // DOCUMENTS] for i, text in enumerate(texts)
    ]  # fmt: skip


def headrace() -> dict[str, float]:
    """Seconds of the processor a token of `score_documents`."""
    from headrace.scoring.score import score_documents

    model, encoder, texts = material()
    score_documents(model, encoder, texts[:1], block=BLOCK, batch_size=BATCH, device="cpu")
    begun = time.process_time()
    scores = score_documents(model, encoder, texts, block=BLOCK, batch_size=BATCH, device="cpu")
    return _found(begun, int(scores.tokens.sum()))


def bare() -> dict[str, float]:
    """Seconds a token of the forward passes alone, on the micro-batches that scoring makes."""
    import torch

    from headrace.scoring.windows import cut

    model, encoder, texts = material()
    windows = cut(encoder, texts, BLOCK)
    with torch.inference_mode():
        model(input_ids=torch.zeros((1, BLOCK), dtype=torch.long), use_cache=False)
        begun = time.process_time()
        for batch in windows.batches(BATCH * BLOCK):
            model(input_ids=torch.from_numpy(windows.rows(batch)[0]), attention_mask=None, use_cache=False)
    return _found(begun, len(windows.targets))


def trainer() -> dict[str, float]:
    """Seconds a token of `Trainer.evaluate` as the reference recipe sets it up."""
    import numpy as np
    import torch
    from transformers import Trainer, TrainingArguments

    from headrace.scoring.metrics import load_metric
    from headrace.scoring.windows import cut

    model, encoder, texts = material()
    ids = cut(encoder, texts, BLOCK).targets
    blocks = torch.from_numpy(ids[: len(ids) // BLOCK * BLOCK].astype(np.int64)).reshape(-1, BLOCK)
    metric = load_metric("accuracy")

    def compute_metrics(answer: Any) -> Any:
        predictions, labels = answer
        return metric.compute(predictions=predictions[:, :-1].reshape(-1), references=labels[:, 1:].reshape(-1))

    arguments = TrainingArguments(
        output_dir="/tmp/headrace-benchmark", per_device_eval_batch_size=BATCH, use_cpu=True, report_to="none",
        disable_tqdm=True,
    )  # fmt: skip
    made = Trainer(
        model=model, args=arguments, eval_dataset=[{"input_ids": b, "labels": b} for b in blocks],
        compute_metrics=compute_metrics, preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(dim=-1),
    )  # fmt: skip
    begun = time.process_time()
    made.evaluate()
    return _found(begun, blocks.numel())


def _found(begun: float, tokens: int) -> dict[str, float]:
    return {"s_per_token": (time.process_time() - begun) / tokens, "tokens": tokens}


def memory() -> dict[str, float]:
    """Megabytes that scoring adds to the process, and those of the logits had they been whole."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from headrace.scoring.score import score_documents

    _, encoder, texts = material()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=150_000, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=1,
            num_key_value_heads=1, max_position_embeddings=1_024,
        )
    ).eval()  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    score_documents(model, encoder, texts, block=1_024, batch_size=4, device="cpu")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"grown_mb": grown, "whole_logits_mb": 4 * 1_024 * 150_000 * 4 / 1e6}


def measured(name: str, core: int) -> dict[str, float]:
    """One measurement in a process of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), "--one", name], env=env, check=True, capture_output=True, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure in turns and write the figures, or one of them for `measured`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/scoring.json"))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--one", choices=(*PATHS, "memory"))
    args = parser.parse_args()
    if args.one:
        print(json.dumps({f.__name__: f for f in (headrace, bare, trainer, memory)}[args.one]()))
        return
    core = sorted(os.sched_getaffinity(0))[-1]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in PATHS}
    for _ in range(args.turns):
        for name in PATHS:
            runs[name].append(measured(name, core))
    ratios = {
        f"headrace/{other}": statistics.median(
            mine["s_per_token"] / theirs["s_per_token"]
            for mine, theirs in zip(runs["headrace"], runs[other], strict=True)
        )
        for other in PATHS[1:]
    }
    found = {"runs": runs, "ratios": ratios, "memory": measured("memory", core)}
    args.json.write_text(json.dumps({"scoring": found}, indent=2) + "\n")
    print(json.dumps({**ratios, **found["memory"]}, indent=2))


if __name__ == "__main__":
    main()
