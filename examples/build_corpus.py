"""Rebuild the example corpus and the tiny model's folder from Debian's package python3.11-doc.

The package is downloaded with `apt-get` and unpacked with `dpkg-deb`, both without root. The result depends
on the package's text alone, so anyone can check the shipped files against their source.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

PACKAGE = "python3.11-doc"
SOURCES = Path("usr/share/doc/python3.11/html/_sources")
SECTIONS = ("faq", "howto", "reference", "tutorial")
SUFFIX = ".rst.txt"
RELEASED = "2023-02-08T00:00:00Z"  # of Python 3.11.2, whose documentation this is

SHARDS = 6
ROWS_PER_GROUP = 4  # small, so that even this corpus has more row groups than a run has lanes
END_OF_TEXT = "<|endoftext|>"
VOCAB_SIZE = 4096
CONTEXT_TOKENS = 256

# FineWeb's columns, in FineWeb's order.
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("id", pa.string()),
        ("dump", pa.string()),
        ("url", pa.string()),
        ("date", pa.string()),
        ("file_path", pa.string()),
        ("language", pa.string()),
        ("language_score", pa.float64()),
        ("token_count", pa.int64()),
    ]
)

FOREIGN_HOST = re.compile(r"(https?://)(?!(?:[\w-]+\.)*python\.org\b)[\w.-]+\.[a-z]{2,}")


class CorpusError(Exception):
    """The corpus cannot be built; the message says what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output_dir",
        type=Path,
        default=Path(__file__).parent,
        help="gets pydocs/ and tiny-gpt2/ (%(default)s)",
    )
    parser.add_argument("--deb", type=Path, metavar="FILE", help=f"a {PACKAGE} package already downloaded")
    arguments = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            build(arguments.output_dir, unpack(arguments.deb or download(Path(scratch)), Path(scratch)))
    except CorpusError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


def download(folder: Path) -> Path:
    """The package file, fetched into `folder` from where this machine's apt gets its packages."""
    run(["apt-get", "download", PACKAGE], folder, f"cannot download {PACKAGE}; give a copy of it with --deb")
    return next(folder.glob("*.deb"))


def unpack(package: Path, folder: Path) -> Path:
    """The root of the package's files, unpacked below `folder`."""
    root = folder / "root"
    run(["dpkg-deb", "-x", str(package.resolve()), str(root)], folder, f"cannot unpack {package}")
    return root


def run(command: list[str], folder: Path, failure: str) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise CorpusError(f"{failure} ({command[0]} is not on this machine)") from error
    except subprocess.CalledProcessError as error:
        raise CorpusError(f"{failure} ({error.stderr.strip()})") from error


def build(output_dir: Path, root: Path) -> None:
    """Write the shards, their licence, the tokenizer and the model's configuration."""
    texts = read_documents(root / SOURCES)
    tokenizer = train_tokenizer(list(texts.values()))
    write_shards(output_dir / "pydocs" / "data", [row(*item, tokenizer) for item in texts.items()])
    (output_dir / "pydocs" / "LICENSE").write_text(licence(root), encoding="utf-8")
    write_model(output_dir / "tiny-gpt2", tokenizer)


def read_documents(sources: Path) -> dict[str, str]:
    """Texts by document name (`tutorial/venv`), in the order of the names, none of them twice or blank."""
    paths = {path.resolve() for section in SECTIONS for path in (sources / section).rglob(f"*{SUFFIX}")}
    names = {str(path.relative_to(sources.resolve())).removesuffix(SUFFIX): path for path in paths}
    first_by_text: dict[str, str] = {}
    for name in sorted(names):
        text = without_foreign_hosts(names[name].read_text(encoding="utf-8"))
        if text.strip():
            first_by_text.setdefault(text, name)
    if not first_by_text:
        raise CorpusError(f"no *{SUFFIX} in the package's {SOURCES}; is it {PACKAGE}?")
    return {name: text for text, name in first_by_text.items()}


def without_foreign_hosts(text: str) -> str:
    """The text with every linked host outside python.org renamed to example.org.

    The corpus outlives the sites it links to: a model that recites an address must not send anyone to whoever
    owns that name by then.
    """
    return FOREIGN_HOST.sub(r"\1example.org", text)


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """A byte-level BPE with GPT-2's splitting rules; any text round-trips."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def row(name: str, text: str, tokenizer: Tokenizer) -> dict[str, Any]:
    url = f"https://docs.python.org/3.11/{name}.html"
    return {
        "text": text,
        "id": f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, url)}>",
        "dump": "python-docs-3.11.2",
        "url": url,
        "date": RELEASED,
        "file_path": f"{SOURCES / name}{SUFFIX}",
        "language": "en",
        "language_score": 1.0,
        "token_count": len(tokenizer.encode(text).ids),
    }


def write_shards(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Replace the folder's shards by the rows in their order, as evenly as they divide."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.parquet"):
        stale.unlink()
    ends = [len(rows) * shard // SHARDS for shard in range(SHARDS + 1)]
    for shard in range(SHARDS):
        pq.write_table(
            pa.Table.from_pylist(rows[ends[shard] : ends[shard + 1]], schema=SCHEMA),
            folder / f"train-{shard:05d}-of-{SHARDS:05d}.parquet",
            row_group_size=ROWS_PER_GROUP,
            compression="zstd",
            compression_level=19,
            use_dictionary=["dump", "date", "language"],
        )


def licence(root: Path) -> str:
    """The documentation's copyright notice and the Python licence, as the package states them."""
    notice = (root / SOURCES / f"copyright{SUFFIX}").read_text(encoding="utf-8")
    owners = [part for part in notice.split("\n\n") if part.startswith("Copyright ©")]
    stated = (root / "usr/share/doc" / PACKAGE / "copyright").read_text(encoding="utf-8")
    body = stated[stated.index("Python License\n=") : stated.index("Licenses and Acknowledgements for Incorp")]
    return "\n\n".join(["Documentation of Python 3.11", *owners, body.strip()]) + "\n"


def write_model(folder: Path, tokenizer: Tokenizer) -> None:
    """A model's folder with everything but weights: a run starts from random ones."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    end = tokenizer.token_to_id(END_OF_TEXT)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": CONTEXT_TOKENS,
            "bos_token": END_OF_TEXT,
            "eos_token": END_OF_TEXT,
            "unk_token": END_OF_TEXT,
            "clean_up_tokenization_spaces": False,
        },
    )
    write_json(
        folder / "config.json",
        {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "vocab_size": VOCAB_SIZE,
            "n_positions": CONTEXT_TOKENS,
            "n_embd": 128,
            "n_layer": 2,
            "n_head": 4,
            "activation_function": "gelu_new",
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "resid_pdrop": 0.0,
            # A narrow model learns much faster from wider weights than from GPT-2's own 0.02.
            "initializer_range": 0.1,
            "bos_token_id": end,
            "eos_token_id": end,
        },
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
