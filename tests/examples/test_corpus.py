"""What examples/ ships is small, clean, readable by the stock libraries, and rebuilt by its own script."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

EXAMPLES = Path(__file__).parents[2] / "examples"
CORPUS = EXAMPLES / "pydocs"
MODEL = EXAMPLES / "tiny-gpt2"
SCRIPT = EXAMPLES / "build_corpus.py"
SIZE_LIMIT_BYTES = 1_000_000

COLUMNS = {
    "text": pa.string(),
    "id": pa.string(),
    "dump": pa.string(),
    "url": pa.string(),
    "date": pa.string(),
    "file_path": pa.string(),
    "language": pa.string(),
    "language_score": pa.float64(),
    "token_count": pa.int64(),
}


def shards(folder: Path = CORPUS) -> list[Path]:
    return sorted((folder / "data").glob("*.parquet"))


def rows() -> list[dict[str, Any]]:
    return [row for shard in shards() for row in pq.read_table(shard).to_pylist()]


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(MODEL / "tokenizer.json"))


def test_shards_are_numbered_without_a_gap() -> None:
    count = len(shards())
    assert count > 1
    assert [path.name for path in shards()] == [f"train-{shard:05d}-of-{count:05d}.parquet" for shard in range(count)]


@pytest.mark.parametrize("shard", shards(), ids=lambda path: path.name)
def test_a_shard_has_the_columns_of_fineweb_in_several_row_groups(shard: Path) -> None:
    file = pq.ParquetFile(shard)
    assert dict(zip(file.schema_arrow.names, file.schema_arrow.types, strict=True)) == COLUMNS
    assert file.schema_arrow.names == list(COLUMNS)
    assert file.metadata.num_row_groups > 1
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_documents_are_many_none_blank_none_twice() -> None:
    documents = rows()
    texts = [row["text"] for row in documents]
    assert len(texts) > 50
    assert all(text.strip() for text in texts)
    assert len(set(texts)) == len(texts)
    for column in ("id", "url", "file_path"):
        assert len({row[column] for row in documents}) == len(documents)


def test_documents_are_in_the_order_of_their_paths() -> None:
    paths = [row["file_path"].removesuffix(".rst.txt") for row in rows()]
    assert paths == sorted(paths)


def test_no_text_links_outside_python_org() -> None:
    hosts = {host for row in rows() for host in re.findall(r"https?://([\w.-]+\.[a-z]{2,})", row["text"])}
    assert not [host for host in hosts if host != "example.org" and not re.search(r"(^|\.)python\.org$", host)]


def test_all_that_is_shipped_is_small() -> None:
    shipped = [SCRIPT, *(path for folder in (CORPUS, MODEL) for path in folder.rglob("*") if path.is_file())]
    assert sum(path.stat().st_size for path in shipped) < SIZE_LIMIT_BYTES
    assert {"README.md", "LICENSE"} <= {path.name for path in CORPUS.iterdir()}


def test_tokenizer_gives_every_text_back(tokenizer: Tokenizer) -> None:
    awkward = "tabs\tand\r\nlines, 日本語, 🙂, e\u0301, \x00 and <|endoftext|>"
    for text in [*(row["text"] for row in rows()), awkward]:
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_token_counts_are_the_tokenizers(tokenizer: Tokenizer) -> None:
    for row in rows():
        assert row["token_count"] == len(tokenizer.encode(row["text"]).ids)


def test_model_and_tokenizer_agree(tokenizer: Tokenizer) -> None:
    config = json.loads((MODEL / "config.json").read_text())
    settings = json.loads((MODEL / "tokenizer_config.json").read_text())
    end = tokenizer.token_to_id(settings["eos_token"])
    assert config["vocab_size"] == tokenizer.get_vocab_size()
    assert config["n_positions"] == settings["model_max_length"]
    assert config["bos_token_id"] == config["eos_token_id"] == end
    assert tokenizer.encode(settings["eos_token"]).ids == [end]


def test_script_explains_itself() -> None:
    finished = run_script("--help")
    assert finished.returncode == 0, finished.stderr
    assert "--output_dir" in finished.stdout and "--deb" in finished.stdout


def test_script_refuses_what_is_no_package(tmp_path: Path) -> None:
    finished = run_script("--output_dir", str(tmp_path / "out"), "--deb", str(tmp_path / "absent.deb"))
    assert finished.returncode == 2
    assert "absent.deb" in finished.stderr and "Traceback" not in finished.stderr


@pytest.mark.slow
def test_rebuilding_gives_the_same_texts(tmp_path: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip("apt-get and dpkg-deb, which fetch and unpack the source, are not on this machine")
    finished = run_script("--output_dir", str(tmp_path))
    if "cannot download" in finished.stderr:
        pytest.skip(f"this machine's apt does not give the source: {finished.stderr.strip()}")
    assert finished.returncode == 0, finished.stderr
    rebuilt = shards(tmp_path / "pydocs")
    assert [path.name for path in rebuilt] == [path.name for path in shards()]
    for ours, theirs in zip(shards(), rebuilt, strict=True):
        assert pq.read_table(ours, columns=["text"]).equals(pq.read_table(theirs, columns=["text"]))
    for name in ("pydocs/LICENSE", "tiny-gpt2/config.json", "tiny-gpt2/tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (EXAMPLES / name).read_bytes()
