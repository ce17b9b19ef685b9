"""Planted faults, each through the real command: the right code, the right severity, the right exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.validate import forecast
from tests.validate.conftest import CORPUS, MODEL, Result, texts

Validate = Callable[..., Result]
Dataset = Callable[..., str]


def test_the_shipped_corpus_is_a_go(validate: Validate) -> None:
    result = validate(CORPUS, "--heldout_fraction", "0.1")
    assert result.code == 0 and result.report is not None
    assert result.report["verdict"] == "go" and not result.codes
    assert result.report["dataset"]["rows"] == 57 and result.report["facts"]["looked_at"]["complete"]
    assert result.report["heldout"]["documents"] == 6
    assert "validate: GO" in result.out and str(result.folder / "report.html") in result.out


def test_a_missing_column_is_told_with_the_nearest_names(validate: Validate, dataset: Dataset) -> None:
    result = validate(dataset(texts(20), column="texts"))
    finding = result.finding("missing-column")
    assert result.code == 3 and finding["severity"] == "no-go"
    assert "no column 'text'" in finding["message"] and "nearest: texts" in finding["message"]
    assert "--dataset_text_field" in finding["remedy"] and "missing-column" in result.out
    assert result.err.startswith("headrace: error: no-go: ") or "headrace: error: no-go: " in result.err


def test_a_column_missing_in_one_file_only(validate: Validate, dataset: Dataset) -> None:
    dataset(texts(20), texts(20, 100))
    name = dataset(texts(20, 200), column="body")
    result = validate(name)
    assert result.code == 3 and result.codes == {"missing-column"}
    assert result.finding("missing-column")["message"].startswith("1 of 3 files lack the text column. part-002.parquet")
    assert result.report is not None and result.report["dataset"]["files"] == 2


def test_a_column_of_numbers(validate: Validate, dataset: Dataset) -> None:
    result = validate(dataset(range(20), kind=pa.int64()))
    assert result.code == 3 and "int64, expected text" in result.finding("wrong-type")["message"]


def test_a_truncated_file(validate: Validate, dataset: Dataset) -> None:
    name = dataset(texts(20), texts(20, 100))
    path = Path(name) / "part-001.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    result = validate(name)
    assert result.code == 3 and result.codes == {"unreadable-file"}
    assert "part-001.parquet" in result.finding("unreadable-file")["message"]
    # The rest is still looked at, and every file is written.
    assert result.report is not None and result.report["facts"]["looked_at"]["rows"] == 20
    for written in ("report.json", "report.md", "report.html", "manifest.json", "heldout.parquet", "outcome.json"):
        assert (result.folder / written).is_file()


def test_data_that_is_damaged_below_a_sound_footer(validate: Validate, dataset: Dataset) -> None:
    name = dataset(texts(40), texts(40, 100))
    path = Path(name) / "part-000.parquet"
    data = bytearray(path.read_bytes())
    data[4:60] = bytes(range(56))
    path.write_bytes(bytes(data))
    result = validate(name)
    assert result.code == 3 and result.codes == {"unreadable-rows"}
    assert "part-000.parquet, row group 0" in result.finding("unreadable-rows")["message"]
    assert result.report is not None and result.report["dataset"]["files"] == 1
    assert pq.read_table(result.folder / "heldout.parquet").column("file").unique().to_pylist() == ["part-001.parquet"]


def test_text_that_is_not_utf8_is_found_by_row(validate: Validate, dataset: Dataset) -> None:
    name = dataset(texts(20))
    raw = [t.encode() for t in texts(5, 50)]
    raw[3:] = [b"caf\xe9 au lait", b"zoo"]
    binary = pa.array(raw, pa.binary())
    column = pa.Array.from_buffers(pa.string(), 5, binary.buffers())
    pq.write_table(pa.table({"text": column}), Path(name) / "part-001.parquet")
    result = validate(name)
    assert result.code == 3 and "row group 0: " in result.finding("unreadable-rows")["message"]
    assert "UTF8 sequence at string index 3" in result.finding("unreadable-rows")["message"]


def test_damage_that_a_sample_passed_over_is_found_with_the_held_out_slice(
    validate: Validate, dataset: Dataset
) -> None:
    name = dataset(*(texts(20, 100 * i) for i in range(6)), rows=5)
    for i in range(6):
        path = Path(name) / f"part-{i:03}.parquet"
        groups = pq.ParquetFile(path).metadata
        start = groups.row_group(2).column(0).data_page_offset
        data = bytearray(path.read_bytes())
        data[start : start + 20] = bytes(range(20))
        path.write_bytes(bytes(data))
    result = validate(name, "--validate_rows", "1")
    finding = result.finding("unreadable-rows")
    assert result.code == 3 and finding["evidence"]["row_groups"] == 6
    assert result.finding("no-rows")["severity"] == "no-go"


@pytest.mark.parametrize(
    ("nulls", "severity", "code"), [(0, None, 0), (4, "info", 0), (5, "warn", 0), (50, "warn", 0), (51, "no-go", 3)]
)
def test_null_rows(nulls: int, severity: str | None, code: int, validate: Validate, dataset: Dataset) -> None:
    rows: list[Any] = [*texts(100 - nulls), *[None] * nulls]
    result = validate(dataset(rows))
    assert result.code == code and result.report is not None
    found = {f["code"]: f["severity"] for f in result.report["findings"]}
    assert found.get("unusable-rows") == severity
    assert result.report["facts"]["nulls"] == nulls


def test_blank_rows_count_as_unusable(validate: Validate, dataset: Dataset) -> None:
    result = validate(dataset([*texts(40), *["", " \n\t", " "] * 20]))
    finding = result.finding("unusable-rows")
    assert result.code == 3 and finding["severity"] == "no-go"
    assert finding["evidence"]["blanks"] == 60 and finding["evidence"]["nulls"] == 0
    assert finding["evidence"]["examples"][0] == "part-000.parquet, row group 4, row 0"


@pytest.mark.parametrize(("copies", "severity", "code"), [(3, "info", 0), (6, "warn", 0), (60, "no-go", 3)])
def test_copies(copies: int, severity: str, code: int, validate: Validate, dataset: Dataset) -> None:
    rows = texts(100 - copies)
    result = validate(dataset(rows[:50], [*rows[50:], *[rows[0]] * copies]))
    assert result.code == code and result.finding("duplicate-rows")["severity"] == severity
    assert result.finding("duplicate-rows")["evidence"]["duplicates"] == copies


def test_nulls_and_copies_that_are_only_together_too_many(validate: Validate, dataset: Dataset) -> None:
    rows = texts(40)
    result = validate(dataset([*rows, *[None] * 30, *[rows[3]] * 30]))
    assert result.code == 3 and result.codes == {"unusable-rows", "duplicate-rows", "wasted-rows"}
    assert result.finding("wasted-rows")["severity"] == "no-go"


@pytest.mark.parametrize("bad", ["cafÃ© au lait", "it â€™ s", "stopped \x00 here", "lost \ufffd here", "ÐœÐ¾ÑÐºÐ²Ð°"])
def test_damaged_text_is_a_warning_and_never_more(bad: str, validate: Validate, dataset: Dataset) -> None:
    few = validate(dataset([*texts(96), *[f"{bad} {i}" for i in range(4)]]), "--heldout_fraction", "0")
    assert few.code == 0 and few.finding("damaged-text")["severity"] == "info"
    Path(few.folder.parent / "data" / "part-000.parquet").unlink()
    many = validate(dataset([f"{bad} {i}" for i in range(100)]), "--heldout_fraction", "0")
    assert many.code == 0 and many.finding("damaged-text")["severity"] == "warn"
    assert many.report is not None and many.report["verdict"] == "warn"
    assert bad not in (many.folder / "report.json").read_text()  # places, never text


def test_an_empty_dataset(validate: Validate, dataset: Dataset) -> None:
    result = validate(dataset([]))
    assert result.code == 3 and result.codes == {"no-rows"}


def test_a_dataset_of_nothing_but_blanks(validate: Validate, dataset: Dataset) -> None:
    result = validate(dataset(["", None, " "] * 5))
    assert result.code == 3 and result.codes == {"no-tokens", "unusable-rows"}


def test_a_slice_that_leaves_nothing_to_train_on(validate: Validate, dataset: Dataset) -> None:
    result = validate(dataset(["the only document there is"]))
    assert result.code == 3 and "none is left to train on" in result.finding("no-tokens")["message"]


@pytest.mark.parametrize(("ranks", "severity"), [(1, None), (8, None), (3, "warn"), (65, "warn")])
def test_world_sizes(ranks: int, severity: str | None, validate: Validate, dataset: Dataset) -> None:
    flags = (
        "--heldout_fraction",
        "0.1",
        "--lanes",
        "8",
        "--global_batch_size",
        "8",
        "--per_device_train_batch_size",
        "1",
    )
    result = validate(dataset(texts(40)), *flags, "--world_size", str(ranks))
    assert result.code == 0 and result.report is not None
    found = {f["code"]: f for f in result.report["findings"]}
    assert (found["world-size"]["severity"] if "world-size" in found else None) == severity
    if severity:
        assert "1, 2, 4, 8" in found["world-size"]["remedy"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--dataset_block_size", "257"), "--dataset_block_size is 257; the model takes at most 256"),
        (("--dataset_train_split", "trian"), "has no split 'trian' (nearest: train)"),
        (("--dataset_revison", "x"), "nearest: dataset_revision"),
        (("--validate_thresholds", '{"warn_wastd": 0.1}'), "has no 'warn_wastd' (nearest: warn_wasted"),
        (("--validate_thresholds", "{warn"), "--validate_thresholds wants a JSON object"),
        (("--tokenizer", "/nowhere/at/all"), "there is no model folder /nowhere/at/all"),
    ],
)
def test_mistakes_of_usage_are_exit_2(flags: tuple[str, ...], said: str, validate: Validate) -> None:
    result = validate(CORPUS, *flags)
    assert result.code == 2 and result.report is None
    assert said in result.err and "Traceback" not in result.err and len(result.err.splitlines()) <= 3


def test_neither_model_nor_tokenizer(validate: Validate) -> None:
    result = validate(CORPUS, model=False)
    assert result.code == 2 and "--model_name_or_path is missing" in result.err


def test_a_tokenizer_alone_is_enough(validate: Validate) -> None:
    result = validate(CORPUS, "--tokenizer", MODEL, "--heldout_fraction", "0.1", model=False)
    assert result.code == 0 and result.report is not None and result.report["plan"]["block"] == 8192


def test_thresholds_move_the_verdict(validate: Validate, dataset: Dataset) -> None:
    name = dataset([*texts(92), *[None] * 8])
    assert validate(name).report["verdict"] == "warn"  # type: ignore[index]
    assert validate(name, "--validate_thresholds", '{"warn_wasted": 0.1}').report["verdict"] == "go"  # type: ignore[index]
    strict = validate(name, "--validate_thresholds", '{"no_go_wasted": 0.05}')
    assert strict.code == 3 and strict.report is not None and strict.report["thresholds"]["no_go_wasted"] == 0.05


def test_a_forecast_of_stalls(validate: Validate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "LEAST_S", 0.0)
    slice_ = ("--heldout_fraction", "0.1")
    plain = validate(CORPUS, *slice_).finding("stream-rate")
    assert plain["evidence"]["rank_tokens_per_s"] > 0 and "--gpu_tokens_per_s" in plain["remedy"]
    enough = validate(CORPUS, *slice_, "--gpu_tokens_per_s", "1").finding("stream-rate")
    assert enough["evidence"]["needed_tokens_per_s"] == 1 and not enough["remedy"]
    starving = validate(CORPUS, *slice_, "--gpu_tokens_per_s", "1e12")
    assert starving.code == 0 and starving.finding("stall")["severity"] == "info" and not starving.codes
    assert starving.finding("stall")["evidence"]["waiting"] > 0.99
    limit = ("--validate_thresholds", '{"warn_stall": 0.1}')
    assert validate(CORPUS, *slice_, "--gpu_tokens_per_s", "1e12", *limit).codes == {"stall"}


def test_more_workers_than_lanes(validate: Validate) -> None:
    flags = ("--heldout_fraction", "0.1", "--world_size", "4", "--dataloader_num_workers", "8")
    finding = validate(CORPUS, *flags, "--lanes", "8", "--global_batch_size", "8").finding("idle-workers")
    assert finding["evidence"] == {"workers": 8, "lanes_per_rank": 2, "world_size": 4}


def test_a_tokenizer_beyond_the_vocabulary(validate: Validate, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    config = (Path(MODEL) / "config.json").read_text().replace('"vocab_size": 4096', '"vocab_size": 100')
    (small / "config.json").write_text(config)
    result = validate(CORPUS, "--model_name_or_path", str(small), "--tokenizer", MODEL)
    assert result.code == 2 and "vocabulary of 100" in result.err


def test_output_that_cannot_be_written(validate: Validate, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = validate(CORPUS, output=tmp_path / "file" / "out")
    assert result.code == 2 and "--output_dir" in result.err
