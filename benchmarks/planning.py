"""How wrong `headrace plan` is: `python benchmarks/planning.py --json FILE` (some minutes, one core).

For each case: the shipped corpus is validated, the training planned with `--hardware cpu`, trained in a fresh process,
and compared by `headrace plan --score`. The models are small, of random weights, with the shipped tokenizer.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HEADRACE = [sys.executable, "-m", "headrace_pipelines"]

GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 4096,
    "n_positions": 256,
    "embd_pdrop": 0,
    "attn_pdrop": 0,
    "resid_pdrop": 0,
}
LLAMA = {
    "model_type": "llama", "vocab_size": 4096, "max_position_embeddings": 256, "tie_word_embeddings": True,
    "num_key_value_heads": 2,
}  # fmt: skip
COMMON = {
    "dataset_name": "examples/pydocs", "heldout_fraction": 0.1, "init_from_config": True, "use_cpu": True,
    "learning_rate": 1e-3, "logging_steps": 4, "save_total_limit": 2, "torch_threads": 1, "disable_tqdm": True,
}  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any] | None, dict[str, Any]]] = {
    "quickstart": (
        "`examples/tiny-gpt2`, 4 x 256 tokens a step, as in `examples/quickstart.yaml`", None,
        {"per_device_train_batch_size": 4, "max_steps": 60, "save_steps": 20},
    ),
    "gpt2-wide": (
        "GPT-2, 8 layers of 384, 8 x 256 tokens a step",
        {**GPT2, "n_embd": 384, "n_layer": 8, "n_head": 6},
        {"per_device_train_batch_size": 8, "max_steps": 8, "save_steps": 4},
    ),
    "gpt2-accumulated": (
        "the same in 4 micro-batches of 2",
        {**GPT2, "n_embd": 384, "n_layer": 8, "n_head": 6},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "max_steps": 8, "save_steps": 4},
    ),
    "llama-wide": (
        "Llama, 6 layers of 512, 8 x 256 tokens a step",
        {**LLAMA, "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "intermediate_size": 1408},
        {"per_device_train_batch_size": 8, "max_steps": 8, "save_steps": 4},
    ),
    "llama-recomputed": (
        "the same with `--gradient_checkpointing`",
        {**LLAMA, "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "intermediate_size": 1408},
        {"per_device_train_batch_size": 8, "max_steps": 8, "save_steps": 4, "gradient_checkpointing": True},
    ),
}  # fmt: skip


def headrace(*argv: object) -> str:
    """What a command prints; it must end well."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*HEADRACE, *map(str, argv)], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"headrace {argv[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def model_folder(work: Path, config: dict[str, Any] | None) -> Path:
    """A folder with that configuration and the shipped tokenizer; the shipped model for None."""
    shipped = ROOT / "examples" / "tiny-gpt2"
    if config is None:
        return shipped
    folder = work / "model"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(shipped / name, folder / name)
    (folder / "config.json").write_text(json.dumps({"bos_token_id": 0, "eos_token_id": 0, **config}))
    return folder


def scored(config: dict[str, Any] | None, flags: dict[str, Any]) -> dict[str, Any]:
    """The comparison of one case, from validation to score."""
    with tempfile.TemporaryDirectory(prefix="headrace-planning-") as scratch:
        work = Path(scratch)
        named = {**COMMON, **flags, "model_name_or_path": str(model_folder(work, config))}
        (work / "run.json").write_text(json.dumps(named))
        given = ["--config", work / "run.json"]
        headrace("validate", *given, "--output_dir", work / "validate")
        headrace("plan", "--report", work / "validate", "--hardware", "cpu", *given)
        share = core_share(lambda: headrace("train", *given, "--output_dir", work / "train"))
        found: dict[str, Any] = json.loads(headrace("plan", "--score", work / "train", "--json"))
        return {"rows": found["rows"], "core_share": share}


def core_share(work: Callable[[], object]) -> float:
    """CPU seconds a second of what a child process did: below 1 where others took its one core."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return min(1.0, used / (time.perf_counter() - begun))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--only", choices=CASES)
    args = parser.parse_args()
    found = {}
    for name, (what, config, flags) in CASES.items():
        if args.only in (None, name):
            found[name] = {"what": what, **scored(config, flags)}
            shown = {r["name"]: r["error"] for r in found[name]["rows"] if r["error"] is not None}
            print(name, ", ".join(f"{k} {100 * v:+.1f} %" for k, v in shown.items()), flush=True)
    args.json.write_text(json.dumps({"planning": found}, indent=1))


if __name__ == "__main__":
    main()
