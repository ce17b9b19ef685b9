"""Columns beside the text, of whatever types and values they are: described, or done without."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard

from headrace.stream import jsonl, retry
from headrace.stream.files import open_file
from headrace.stream.manifest import Manifest
from headrace.stream.source import resolve
from headrace.stream.survey import listed, survey
from headrace.validate import columns, offers
from tests.validate.conftest import Result
from tests.validate.traps import prose, write

Validate = Callable[..., Result]
SECRET = "jane.roe@secret.example"


def described(*chunks: Any, name: str = "c") -> dict[str, Any]:
    """What a column of these values says, one file after another."""
    column = columns.Column()
    for file, values in enumerate(chunks):
        column.add(file, values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values]))
    return columns.described(name, column)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


def sound(result: Result) -> dict[str, Any]:
    """The report of a clean dataset."""
    assert result.code == 0 and result.report is not None and not result.codes, result.err
    assert "Traceback" not in result.err
    return result.report


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["a"] * 40, [datetime(2024, 1, 1)] * 40),
        (["a"] * 40, [date(2024, 1, 1)] * 40),
        (["a"] * 40, [["a"]] * 40),
        (["a"] * 40, [{"a": 1}] * 40),
        (["a"] * 40, [1] * 40),
        ([1] * 40, [b"\xff\x00"] * 40),
        ([1.5] * 40, ["a"] * 40),
        ([True] * 40, [1] * 40),
    ],
    ids=lambda v: type(v[0]).__name__,
)
def test_a_column_of_another_type_in_a_later_file_is_given_up(
    first: list[Any], second: list[Any], folder: Path, validate: Validate
) -> None:
    write(folder, 0, prose(40), s=first, kept=["x"] * 40)
    write(folder, 1, prose(40, 40), s=second, kept=["x"] * 40)
    assert set(sound(validate(str(folder)))["columns"]) == {"kept"}


def test_no_value_of_a_column_gets_into_an_error(folder: Path, validate: Validate) -> None:
    write(folder, 0, prose(40), contact=[1.0] * 40)
    write(folder, 1, prose(40, 40), contact=pa.array([SECRET.encode()] * 40, pa.binary()))
    result = validate(str(folder))
    sound(result)
    written = [p.read_text("utf-8", "replace") for p in result.folder.iterdir() if p.suffix != ".parquet"]
    assert not any("secret.example" in text for text in (*written, result.out, result.err))


BLOCK = 64 << 10


@pytest.mark.parametrize(("early", "late"), [(7, [7]), ("n/a", "2024-01-15"), (7, {"a": 1}), (True, "yes")])
def test_a_column_of_another_type_in_a_later_block_is_given_up(
    early: Any, late: Any, folder: Path, validate: Validate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(offers, "BLOCK_BYTES", BLOCK)
    # Lines of 1 KiB, so that a block ends where the type changes.
    rows = [{"text": t, "date": early if i < 128 else late, "kept": "x"} for i, t in enumerate(prose(256))]
    texts = [json.dumps({**r, "text": r["text"][:300] + f" {i}"}) for i, r in enumerate(rows)]
    (folder / "a.jsonl").write_text("".join(t.ljust(1_023) + "\n" for t in texts))
    found = sound(validate(str(folder)))
    assert found["dataset"]["row_groups"] == 4 and set(found["columns"]) == {"kept"}
    assert found["columns"]["kept"]["rows"] == 256


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int64()),
        pa.binary(),
        pa.timestamp("ns"),
        pa.date32(),
        pa.struct([("a", pa.int64())]),
        pa.decimal128(9),
    ],
    ids=str,
)
def test_nulls_of_any_type_change_nothing(kind: pa.DataType) -> None:
    found = described(pa.array(["a"] * 8), pa.nulls(4, kind), pa.array(["a"] * 8))
    assert found["values"] == [["a", 16]] and found["nulls"] == 4 and found["rows"] == 20


@pytest.mark.parametrize(
    "values",
    [
        [1_700_000_000_000_000_000] * 80,
        [1_700_000_000_000_000_000 + i for i in range(80)],
        [1.7e308, -1.7e308] * 40,
        [1e299, -1e299] * 40,
        [5e-324, 0.0] * 40,
        [0.1 + 1e-16 * i for i in range(80)],
        [2**63 - 1, -(2**63)] * 40,
        [float("inf"), float("nan"), 1.0, 2.0] * 20,
        [0.0] * 79 + [1e12],
    ],
    ids=lambda v: str(v[0]),
)
def test_numbers_of_any_size_have_a_histogram(values: list[Any], folder: Path, validate: Validate) -> None:
    write(folder, 0, prose(80), n=values, kept=["x"] * 80)
    found = sound(validate(str(folder)))["columns"]
    if abs(values[0]) == 1.7e308:  # no measurement, but what stands for none
        assert "n" not in found
        return
    edges = found["n"]["edges"]
    assert sum(found["n"]["counts"]) == sum(abs(v) < 1e300 for v in values)
    assert len(edges) == 25 and all(a < b for a, b in pairwise(edges))
    assert edges[0] <= found["n"]["p50"] <= edges[-1]


def of(folder: Path) -> Manifest:
    return survey(listed([(resolve(str(folder)), "text", 1)])).manifest


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_failing_read_of_the_first_file_is_tried_again(
    ending: str, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    if ending == "parquet":
        write(folder, 0, prose(40), kept=["x"] * 40)
    else:
        (folder / "a.jsonl").write_text('{"text": "a b c", "kept": "x"}\n' * 9)
    manifest, failures = of(folder), [1, 1]

    def flaky(*args: Any, **how: Any) -> Any:
        if failures and failures.pop():
            raise Unavailable("503 Service Unavailable")
        return open_file(*args, **how)

    monkeypatch.setattr(offers, "open_file", flaky)
    assert offers.describable(manifest, deadline_s=10) == ("kept",) and not failures
    failures += [1] * 10_000
    assert offers.describable(manifest, deadline_s=0.05) == () and "no columns are described" in caplog.text


class Unavailable(Exception):
    """What a server of a bucket answers at times."""

    status = 503


def test_a_first_file_that_is_gone_by_now_has_no_columns_to_describe(folder: Path) -> None:
    write(folder, 0, prose(40), kept=["x"] * 40)
    manifest = of(folder)
    (folder / "part-000.parquet").write_bytes(b"no longer what it was")
    assert offers.describable(manifest) == ()
    (folder / "part-000.parquet").unlink()
    assert offers.describable(manifest) == ()


CODES = [
    "en", "zh-Hans", "eng_Latn", "CC-MAIN-2024-10", "true", "False", "7", "-1", "2024", "apache-2.0", "n/a", "",
    "wikipedia", "c4", "v1.5", "GPL-3", "text/html",
]  # fmt: skip
WORDS = [
    "Jane Roe", "Jane", "Roe", "JaneRoe", "Jane_Roe", "jane.roe", "Jane Roe, 12 High St, password hunter2", "hunter2x",
    "sk-live-Zx8_qP2kLm9R", "sk-live-a8f3k2l9d0", "a.b@example.org", "555-0187", "5550187", "2001-02-29", "8.8.8.8",
    "10.20.30.40", "123-45-6789", "Łódź", "王小明", "this is a text", "correcthorsebatterystaple", "pass:word!",
    "xK9vQ2mP",
]  # fmt: skip


@pytest.mark.parametrize("value", CODES)
def test_a_value_that_is_a_code_is_shown(value: str) -> None:
    found = described(pa.array([value] * 9 + ["en"] * 9))
    assert [value, 9] in found["values"] or value == "en"
    assert found["hidden"] == 0


@pytest.mark.parametrize("value", WORDS)
def test_a_value_that_may_be_somebodys_is_counted_and_not_shown(value: str) -> None:
    found = described(pa.array([value] * 9))
    assert value not in json.dumps(found, ensure_ascii=False)
    assert found["values"] == [] and found["hidden"] == found["different"] == 1 and found["other"] == 9
    # Among codes it is left out; among words a code says something about somebody, too.
    found = described(pa.array([value] * 9 + ["en", "de", "fr"] * 9))
    assert sorted(found["values"]) == [["de", 9], ["en", 9], ["fr", 9]] and found["other"] == 9 and found["hidden"] == 1
    assert described(pa.array([value] * 9 + ["en"] * 9))["values"] == []


@pytest.mark.parametrize("name", ["author", "user_name", "Phone", "e-mail", "apiKey", "meta.owner", "ip", "contact"])
def test_columns_about_somebody_are_counted_whatever_they_hold(name: str) -> None:
    found = described(pa.array(["bob", "eve"] * 9), name=name)
    assert found["values"] == [] and found["hidden"] == 2 and "bob" not in json.dumps(found)
    assert described(pa.array([15551234567, 3] * 9), name=name) == {}
    assert described(pa.array([15, 3] * 9), name=name)["most"] == 15


@pytest.mark.parametrize("name", ["language", "score", "skip", "recipe", "monkey", "dump"])
def test_other_columns_are_not_about_somebody(name: str) -> None:
    assert described(pa.array(["a", "b"] * 9), name=name)["values"]


def personal(folder: Path) -> None:
    mails: dict[str, Any] = {"max.power@corp-example.com": [1] * 80}
    write(
        folder, 0, prose(80), author=["Jane Roe", "Max Power"] * 40, kept=["en", "de"] * 40, by=["jane", "max"] * 40,
        said=["Jane Roe, 12 High St, password hunter2"] * 80, k=["sk-live-Zx8qP2kLm9R4"] * 80,
        **mails,
    )  # fmt: skip


def test_no_words_of_columns_are_in_any_file_of_a_report(folder: Path, validate: Validate) -> None:
    personal(folder)
    result = validate(str(folder))
    found = sound(result)["columns"]
    assert set(found) == {"author", "by", "kept", "said", "k"}
    assert found["author"]["values"] == [] and found["author"]["different"] == 2
    written = "".join(p.read_text("utf-8") for p in result.folder.iterdir() if p.suffix in (".html", ".json", ".md"))
    for word in ("Jane", "Max", "jane", "hunter2", "sk-live", "corp-example"):
        assert word not in written.replace("--max", "") + result.out + result.err, word
    html = (result.folder / "report.html").read_text("utf-8")
    assert "2 values, not shown" in html and "one value, not shown" in html and "en: 50.0 %" in html


def test_keys_that_are_data_are_counted_and_not_shown(folder: Path, validate: Validate) -> None:
    rows = [{f"user{i}@corp-example.com": t, "lang": "en"} for i, t in enumerate(prose(6))]
    (folder / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    result = validate(str(folder))
    assert result.code == 3
    finding = result.finding("missing-column")
    assert finding["evidence"]["columns"] == ["lang"] and finding["evidence"]["columns_not_shown"] == 6
    written = "".join(p.read_text("utf-8") for p in result.folder.iterdir() if p.suffix in (".html", ".json", ".md"))
    assert "corp-example" not in written + result.out + result.err and "no column 'text'" in result.out


def test_of_many_columns_some_are_named(folder: Path, validate: Validate) -> None:
    (folder / "a.jsonl").write_text(json.dumps({f"feature_{i}": "x" for i in range(60)}) + "\n")
    evidence = validate(str(folder)).finding("missing-column")["evidence"]
    assert len(evidence["columns"]) == 20 and evidence["columns_not_shown"] == 40


def test_likely_columns_come_first_and_then_the_smallest(folder: Path, validate: Validate) -> None:
    constant: dict[str, Any] = {f"c{i:02}": ["x"] * 80 for i in range(14)}
    write(
        folder, 0, prose(80), **constant, language_score=[i / 80 for i in range(80)],
        meta=[{"lang": "en", "source": {"dump": "CC-MAIN-2024-10"}, "tags": ["a"]}] * 80,
    )  # fmt: skip
    found = sound(validate(str(folder)))["columns"]
    assert len(found) == offers.MOST_COLUMNS and {"language_score", "meta.lang"} <= set(found)


def test_fields_of_objects_are_described(folder: Path, validate: Validate) -> None:
    first = [{"language": "en", "n": i, "source": {"dump": "x1"}, "tags": ["a"]} for i in range(40)]
    second = [None if i % 2 else {"language": "de", "n": i} for i in range(40)]
    write(folder, 0, prose(40), metadata=first)
    write(folder, 1, prose(40, 40), metadata=second)
    found = sound(validate(str(folder)))["columns"]
    assert set(found) == {"metadata.language", "metadata.n", "metadata.source.dump"}
    assert found["metadata.language"]["values"] == [["en", 40], ["de", 20]]
    assert found["metadata.language"]["nulls"] == 20 and found["metadata.n"]["rows"] == 80


def test_an_object_that_is_keyed_by_data_is_not_described(folder: Path, validate: Validate) -> None:
    write(
        folder, 0, prose(40), mails=[{"a.b@example.org": 1, "votes": 2}] * 40,
        many=[{f"u{i}": 1 for i in range(200)}] * 40,
    )  # fmt: skip
    result = validate(str(folder))
    assert set(sound(result)["columns"]) == {"mails.votes"}
    assert "example.org" not in "".join(p.read_text("utf-8") for p in result.folder.glob("report.*"))


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst", "csv", "tsv"])
def test_columns_of_other_formats_are_described(ending: str, folder: Path, validate: Validate) -> None:
    for number, language in enumerate(("en", "de")):
        rows = [
            {"text": t, "language": language, "score": i / 40, "id": f"{number}-{i}"}
            for i, t in enumerate(prose(40, 40 * number))
        ]
        stored(folder / f"{number}.{ending}", rows)
    found = sound(validate(str(folder)))["columns"]
    assert set(found) == {"language", "score"} and sorted(found["language"]["values"]) == [["de", 40], ["en", 40]]
    assert sum(found["score"]["counts"]) == 80


def stored(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
        return
    data = "".join(json.dumps(r) + "\n" for r in rows).encode()
    compress = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}.get(path.suffix, bytes)
    path.write_bytes(compress(data))


@pytest.mark.parametrize("ending", ["jsonl.gz", "csv"])
def test_columns_of_another_type_in_later_pieces_are_done_without(
    ending: str, folder: Path, validate: Validate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(offers, "BLOCK_BYTES", BLOCK)
    rows = [{"text": t, "n": i if i < 300 else SECRET, "kept": "x"} for i, t in enumerate(prose(600))]
    stored(folder / f"a.{ending}", rows)
    result = validate(str(folder))
    sound(result)
    assert SECRET not in result.err + "".join(p.read_text("utf-8") for p in result.folder.glob("report.*"))


def test_large_compressed_lines_are_read_without_other_columns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(folder / "a.jsonl.gz", [{"text": "a b c", "language": "en"}] * 9)
    assert offers.describable(of(folder)) == ("language",)
    monkeypatch.setattr(offers, "WHOLE_BYTES", 10)
    assert offers.describable(of(folder)) == ()
