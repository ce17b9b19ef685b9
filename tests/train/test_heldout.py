"""The held-out slice is absent from training: shown from the ledger and the rows it leads to, not from our own sets."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.audit import peek, verify
from headrace.stream.heldout import HeldOut
from headrace.stream.tokenizer import load_encoder
from tests.train.conftest import Train, strict

BLOCK, EPOCHS = 64, 2


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 documents, each of them three times: in another file, in another row group, and beside itself."""
    folder = tmp_path_factory.mktemp("copied") / "data"
    folder.mkdir()
    texts = [f"Document {i} says: " + f"the number {i * 7919} is not {i}. " * (1 + i % 5) for i in range(60)]
    for name, rows in (("a", [*texts, *texts[:10]]), ("b", [t for t in texts[::-1] for _ in range(2)][:110])):
        pq.write_table(pa.table({"text": rows}), folder / f"{name}.parquet", row_group_size=25)
    return folder


def trained_rows(output: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The text of every row that a run trained on, at least in part, each as often as it did.

    The ledger that the training wrote is held against a replay; of the replay every block is built anew from rows
    read with pyarrow, and must be the block whose digest was trained.
    """
    steps = strict(output / "headrace.json")["steps"]
    assert verify.main([str(output)]) == 0
    assert f"steps 1 to {steps}" in capsys.readouterr().out
    assert peek.main(["--step", f"1:{steps}", "--json", str(output)]) == 0
    encoder = load_encoder(str(output))
    files: dict[str, pq.ParquetFile] = {}
    texts = []
    for line in capsys.readouterr().out.splitlines():
        block: list[int] = []
        sample: dict[str, Any] = json.loads(line)
        for span in sample["spans"]:
            file = files.setdefault(span["file"], pq.ParquetFile(data / span["file"]))
            text = file.read_row_group(span["row_group"]).column("text")[span["row"]].as_py()
            ids = [*encoder.encode([text])[0].tolist(), encoder.eos_id]
            block += ids[span["start"] : span["end"]]
            texts.append(text)
        assert hashlib.sha256(np.array(block, "<i4").tobytes()).hexdigest() == sample["sha256"]
    return texts


def test_no_row_that_was_trained_is_held_out_exact_copies_included(
    copied: Path, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how: dict[str, Any] = {
        "dataset_name": str(copied), "max_steps": None, "num_train_epochs": EPOCHS, "save_steps": 50,
        "dataset_block_size": BLOCK,
    }  # fmt: skip
    train(tmp_path / "out", **how, heldout_fraction=0.1)
    everything = [t for f in sorted(copied.iterdir()) for t in pq.read_table(f).column("text").to_pylist()]
    held_out = set(HeldOut.read(tmp_path / "out" / "heldout.parquet").texts)
    copies = sum(text in held_out for text in everything)
    assert len(held_out) >= 10 and copies > 2 * len(held_out)

    capsys.readouterr()
    seen = trained_rows(tmp_path / "out", copied, capsys)
    assert not held_out & set(seen)
    assert set(seen) == set(everything) - held_out  # all else was trained
    dropped = strict(tmp_path / "out" / "headrace.json")["stream"]["dropped"]
    assert dropped == {"heldout": EPOCHS * copies}

    # The same look finds every one of them where nothing was held out.
    train(tmp_path / "all", **how, heldout_fraction=0)
    capsys.readouterr()
    assert held_out <= set(trained_rows(tmp_path / "all", copied, capsys))
