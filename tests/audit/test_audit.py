"""Looking into the order of a run and of flags, and proving what a run trained."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from headrace.artifacts.files import write_json
from headrace.audit import peek, verify
from headrace.audit.open import steps_of
from headrace.errors import ChangedSource, InputError
from headrace.inputs import open_choice, open_encoder, open_feed, open_heldout, open_manifest, open_plan, open_reader
from headrace.options import parse_mapping
from headrace.stream.batches import RankStream
from headrace.stream.ledger import Ledger, LedgerWriter
from headrace.stream.steps import merge_states

ROOT = Path(__file__).parents[2]
PYDOCS, TINY = ROOT / "examples/pydocs", ROOT / "examples/tiny-gpt2"
FLAGS = ["--dataset_name", str(PYDOCS), "--model_name_or_path", str(TINY), "--heldout_fraction", "0.1"]
STEPS, SAVED = 12, 5


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks leave of their stream, stopped once and gone on with three; as `headrace train` writes it."""
    out = tmp_path_factory.mktemp("run") / "out"
    shutil.copytree(PYDOCS, out.parent / "data")
    options = parse_mapping({"dataset_name": str(out.parent / "data"), "model_name_or_path": str(TINY)})
    manifest = open_manifest(options)
    reader, encoder = open_reader(options, manifest), open_encoder(options)
    heldout = open_heldout(options, reader)
    choice = open_choice(options, reader, heldout)
    plan = open_plan(options, reader, encoder, heldout, choice, block=128, global_batch=8)
    state: dict[str, Any] | None = None
    for start, (ranks, first, last) in enumerate([(2, 1, SAVED + 2), (3, SAVED + 1, STEPS)], 1):
        saved = []
        for rank in range(ranks):
            feed = open_feed(reader, encoder, choice)
            stream = RankStream(plan, reader.shards, feed, world_size=ranks, rank=rank, batch=2, state=state)
            writer = LedgerWriter(out / "ledger", start=start, rank=rank, world_size=ranks)
            for step in range(first, last + 1):
                for _ in range(stream.accumulation):
                    next(stream)
                writer.append(step, stream.digest_at(step))
            saved.append(stream.state_at(SAVED if start == 1 else STEPS))
            writer.note(saved[-1])
            writer.flush()
            stream.close()
        state = merge_states(saved)
    write_json(out / "headrace.json", {"plan": plan.to_json(), "horizon": {"steps": STEPS, "epochs": None}})
    write_json(out / "manifest.json", manifest.to_json())
    assert heldout is not None
    heldout.write(out / "heldout.parquet")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TINY / name, out / name)
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(trained, tmp_path / "out")
    return tmp_path / "out"


def rows(capsys: pytest.CaptureFixture[str], *argv: str) -> list[dict[str, Any]]:
    assert peek.main([*argv, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_sample_is_the_tokens_of_the_rows_it_names(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = open_encoder(parse_mapping({"model_name_or_path": str(TINY)}))
    found = rows(capsys, "--step", "9:10", str(trained))
    assert [(r["step"], r["sample"]) for r in found] == [(s, i) for s in (9, 10) for i in range(8)]
    for row in found:
        ids: list[int] = []
        for span in row["spans"]:
            table = pq.ParquetFile(trained.parent / "data" / span["file"]).read_row_group(span["row_group"])
            document = [*encoder.encode([table.column("text")[span["row"]].as_py()])[0].tolist(), encoder.eos_id]
            ids += document[span["start"] : span["end"]]
        assert len(ids) == 128 and hashlib.sha256(np.array(ids, "<i4").tobytes()).hexdigest() == row["sha256"]


def test_flags_show_what_a_run_with_them_would_train(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [*FLAGS, "--heldout_fraction", "0.02", "--dataset_block_size", "128", "--per_device_train_batch_size", "4"]
    planned = rows(capsys, "--step", "7", *flags, "--world_size", "2")
    assert planned == [{**r, "rank": r["lane"] % 2} for r in rows(capsys, str(trained), "--step", "7")]
    mine = rows(capsys, "--step", "7", *flags, "--world_size", "2", "--rank", "1")
    assert mine == [r for r in planned if r["rank"] == 1] != []


def test_people_see_places_and_text(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert peek.main(["--step", "1", str(trained)]) == 0
    shown = capsys.readouterr().out
    assert "step 1  sample 0  rank 0  lane 0" in shown and "row group" in shown and "tokens 0-" in shown


def test_a_run_that_was_stopped_and_divided_anew_is_proven(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(Ledger.read(trained / "ledger").digests) == list(range(1, STEPS + 1))
    assert verify.main([str(trained)]) == 0
    assert f"steps 1 to {STEPS}" in capsys.readouterr().out
    assert verify.main([str(trained), "--step", "7:9"]) == 0


def test_a_step_that_trained_something_else_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sorted((run / "ledger").glob("000002-00001*.bin"))[0]
    data = bytearray(path.read_bytes())
    step, digest = struct.unpack_from("<QQ", data, 32)
    struct.pack_into("<QQ", data, 32, step, digest ^ 1)
    path.write_bytes(bytes(data))
    assert step == 8 and verify.main([str(run)]) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("step 8 differs") and "data/train-0000" in shown


def test_steps_that_the_ledger_lacks_are_no_proof(run: Path) -> None:
    with pytest.raises(InputError, match="has no step 13"):
        verify.main([str(run), "--step", "1:13"])
    shutil.rmtree(run / "ledger")
    with pytest.raises(InputError, match="has no step 1"):
        verify.main([str(run)])


def test_changed_data_is_named(run: Path, trained: Path) -> None:
    shutil.copy(TINY / "config.json", run / "config.json")
    value = json.loads((run / "tokenizer.json").read_text())
    value["model"]["vocab"]["zzzz"] = value["model"]["vocab"].pop("ĠHOWTO", 4095)
    (run / "tokenizer.json").write_text(json.dumps(value))
    with pytest.raises((ChangedSource, InputError)):
        verify.main([str(run)])
    (run / "heldout.parquet").unlink()
    with pytest.raises(InputError):
        verify.main([str(run)])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--step is missing"), (["--step", "0"], "steps from 1"), (["--step", "5:4"], "S or S:E"),
        (["--step", "x"], "S or S:E"), (["--step", "1", "/none"], "no output of `headrace train`"),
        (["--step", "1", *FLAGS, "--world_size", "99"], "--world_size is 99"),
        (["--step", "1", *FLAGS, "--rank", "1"], "--rank is 1"),
    ],
)  # fmt: skip
def test_mistakes_are_told(argv: list[str], said: str) -> None:
    with pytest.raises(InputError) as found:
        peek.main(argv)
    assert said in found.value.message + found.value.remedy


def test_steps() -> None:
    assert steps_of("3") == (3, 3) and steps_of("3:7") == (3, 7)
