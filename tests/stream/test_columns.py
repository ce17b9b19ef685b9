"""Columns that files hold in different types, twice, or under awkward names are read, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.errors import InputError
from headrace.stream import documents
from headrace.stream.columns import joined
from headrace.stream.documents import Reader
from headrace.stream.feed import Choice, TextFeed
from headrace.stream.filters import Filter, columns_of, first_refusal
from headrace.stream.source import resolve
from headrace.stream.steps import StepReader
from headrace.stream.survey import build, listed, survey
from headrace.stream.tokenizer import Encoder
from headrace.stream.unfit import Unfit
from tests.stream.conftest import manifest_of
from tests.stream.oracle import make_plan

TEXTS = [f"number {i} of them" for i in range(40)]
Trained = Callable[..., list[str]]


def shard(folder: Path, name: str, **columns: Any) -> None:
    pq.write_table(pa.table(columns), folder / f"{name}.parquet", row_group_size=7)


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))


@pytest.fixture
def trained(tmp_path: Path, encoder: Encoder) -> Trained:
    """Texts that an epoch over the test's folder trains under some filters, in windows that join files."""

    def trained(*filters: str, column: str = "text") -> list[str]:
        found = tuple(map(Filter.parse, filters))
        reader = Reader(manifest_of(tmp_path, column), extra=columns_of(found), scratch=tmp_path / "scratch")
        plan = make_plan(lanes=4, global_batch=4, block=32, grouped=False, eos_id=encoder.eos_id, window_rows=30)
        stream = StepReader(plan, reader.shards, TextFeed(reader, encoder, Choice(filters=found)), epochs=1)
        texts = []
        while not stream.ended:
            texts += [encoder.decode(s.ids[:-1]) for _, s in stream.next_step() if s is not None]
        return sorted(texts, key=TEXTS.index)

    return trained


def test_numbers_that_one_file_holds_whole_and_another_as_doubles(tmp_path: Path, trained: Trained) -> None:
    shard(tmp_path, "a", text=TEXTS[:20], score=pa.array(range(20), pa.int64()))
    shard(tmp_path, "b", text=TEXTS[20:], score=[i / 40 for i in range(20)])
    assert trained("score > 0.1") == TEXTS[1:20] + TEXTS[25:]


def test_a_column_that_is_null_in_one_file_keeps_none_of_it(tmp_path: Path, trained: Trained) -> None:
    shard(tmp_path, "a", text=TEXTS[:20], language=pa.nulls(20), score=pa.nulls(20))
    shard(tmp_path, "b", text=TEXTS[20:], language=["en"] * 20, score=[1] * 20)
    assert trained("language == en", "score >= 1") == TEXTS[20:]


def test_text_of_two_widths_and_categories(tmp_path: Path, trained: Trained) -> None:
    language = pa.array(["en", "de"] * 10)
    shard(tmp_path, "a", text=pa.array(TEXTS[:20], pa.large_string()), language=language.dictionary_encode())
    shard(tmp_path, "b", text=pa.array(TEXTS[20:], pa.string()), language=language.cast(pa.large_string()))
    assert trained("language == en") == TEXTS[::2]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst"])
@pytest.mark.parametrize("streamed", [False, True])
def test_lines_whose_numbers_change_from_block_to_block(
    name: str, streamed: bool, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zstandard

    monkeypatch.setattr("headrace.stream.jsonl.BLOCK_BYTES", 400)
    if streamed:
        monkeypatch.setattr(documents, "WHOLE_BYTES", 100)
        monkeypatch.setattr(documents, "SPILLED_LANES", 0)
    rows: list[dict[str, Any]] = [{"text": t, "score": i} for i, t in enumerate(TEXTS[:20])]
    rows += [{"text": t, "score": i + 0.5} for i, t in enumerate(TEXTS[20:30])] + [{"text": t} for t in TEXTS[30:]]
    lines(tmp_path / "a.jsonl", rows)
    if name.endswith(".zst"):
        (tmp_path / name).write_bytes(zstandard.compress((tmp_path / "a.jsonl").read_bytes()))
        (tmp_path / "a.jsonl").unlink()
    assert trained("score > 4") == TEXTS[5:20] + TEXTS[24:30]


def test_lines_whose_words_look_like_dates_are_compared_as_words(tmp_path: Path, trained: Trained) -> None:
    lines(tmp_path / "a.jsonl", [{"text": t, "day": f"2024-01-{i % 20 + 1:02}"} for i, t in enumerate(TEXTS)])
    assert trained('day == "2024-01-03"') == [TEXTS[2], TEXTS[22]]


def test_what_other_columns_of_lines_hold_does_not_matter_to_a_filter(tmp_path: Path, trained: Trained) -> None:
    lines(tmp_path / "a.jsonl", [{"text": t, "n": i, "meta": i if i % 2 else "x"} for i, t in enumerate(TEXTS)])
    assert trained("n < 5") == TEXTS[:5]


def test_a_csv_file_whose_numbers_and_other_columns_change_on_the_way(tmp_path: Path) -> None:
    rows = [f"{i},words {i},{i if i < 10_000 else i + 0.5},{i if i < 10_000 else 'x'}" for i in range(10_100)]
    (tmp_path / "a.csv").write_text("\n".join(["id,text,score,other", *rows]))
    (one,) = filters = (Filter.parse("score > 9990"),)
    reader = Reader(manifest_of(tmp_path), extra=columns_of(filters))
    assert sum(int(one.keeps(reader.table(*p)).sum()) for p in reader.places()) == 109


@pytest.mark.parametrize("column", ["text", "content"])
@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.csv"])
def test_a_filter_on_the_text_itself(column: str, name: str, tmp_path: Path, trained: Trained) -> None:
    if name.endswith("parquet"):
        shard(tmp_path, "a", **{column: TEXTS})
    elif name.endswith("jsonl"):
        lines(tmp_path / name, [{column: t} for t in TEXTS])
    else:
        (tmp_path / name).write_text("\n".join([f"id,{column}", *(f"{i},{t}" for i, t in enumerate(TEXTS))]))
    assert trained(f'{column} != "{TEXTS[3]}"', "characters > 5", column=column) == TEXTS[:3] + TEXTS[4:]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_a_filter_on_another_column_called_text(name: str, tmp_path: Path, trained: Trained) -> None:
    if name.endswith("parquet"):
        shard(tmp_path, "a", text=["yes", "no"] * 20, content=TEXTS)
    else:
        lines(tmp_path / name, [{"text": ["yes", "no"][i % 2], "content": t} for i, t in enumerate(TEXTS)])
    assert trained("text == yes", column="content") == TEXTS[::2]


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        (["score > 99999999999999999999999"], "64 bits"),
        (["score in [1, -99999999999999999999999]"], "64 bits"),
        (["score == null"], "expected COLUMN OPERATOR VALUE"),
        (['score in [1, "a"]'], "expected COLUMN OPERATOR VALUE"),
        (["score > 1", "score == high"], "values of different types"),
    ],
)
def test_a_value_that_nothing_can_be_compared_with(filters: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        columns_of([Filter.parse(f) for f in filters])


def test_whole_numbers_beyond_doubles_are_compared_exactly(tmp_path: Path) -> None:
    numbers = [(1 << 60) + i for i in range(4)]
    shard(tmp_path, "a", text=TEXTS[:4], n=numbers)
    lines(tmp_path / "b.jsonl", [{"text": t, "n": n} for t, n in zip(TEXTS, numbers, strict=False)])
    (one,) = filters = [Filter.parse(f"n == {numbers[2]}")]
    for name in ("a.parquet", "b.jsonl"):
        reader = Reader(manifest_of(tmp_path / name), extra=columns_of(filters))
        assert first_refusal([one], reader.table(0, 0)).tolist() == [1, 1, 0, 1]


def test_types_that_nothing_fits_are_refused_by_name() -> None:
    with pytest.raises(Unfit, match="'id' holds string and int64"):
        joined([pa.table({"id": ["a"]}), pa.table({"id": [1]})])


def test_what_is_kept_of_files_is_kept_by_the_type_that_is_read(tmp_path: Path) -> None:
    shard(tmp_path, "0", text=["a"], score=[1])
    for i in range(1, 130):
        (tmp_path / f"{i}.parquet").hardlink_to(tmp_path / "0.parquet")
    listing = listed([(resolve(str(tmp_path)), "text", 1)])
    for filter_, problems in (("score > 0", 0), ("score == high", 130)):
        found = survey(listing, extra=columns_of([Filter.parse(filter_)]), kept=tmp_path / "kept")
        assert len(found.problems) == problems


def twice(path: Path, *names: str) -> None:
    """A file of TEXTS under each of these names."""
    pq.write_table(pa.Table.from_arrays([pa.array(TEXTS)] * len(names), names=list(names)), path, row_group_size=7)


def test_a_wanted_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    twice(tmp_path / "a.parquet", "text", "id", "text")
    with pytest.raises(Unfit, match="2 of its columns are called 'text', expected one"):
        manifest_of(tmp_path)


def test_another_column_that_is_there_twice_does_not_matter(tmp_path: Path, trained: Trained) -> None:
    twice(tmp_path / "a.parquet", "x", "text", "x", "language")
    assert trained() == TEXTS
    assert trained(f'language == "{TEXTS[2]}"') == [TEXTS[2]]


@pytest.mark.parametrize("column", ["meta", "meta.text", "a.b.c", "."])
def test_a_name_with_dots_is_a_name(column: str, tmp_path: Path, trained: Trained) -> None:
    others = [n for n in ("meta.text", "meta") if n != column]
    pq.write_table(pa.table({**dict.fromkeys(others, ["x" * 99] * 40), column: TEXTS}), tmp_path / "a.parquet")
    found = manifest_of(tmp_path, column)
    assert sum(map(len, TEXTS)) < found.text_bytes < 2 * sum(map(len, TEXTS)) and trained(column=column) == TEXTS
    assert trained(f'{others[0]} == "{"x" * 99}"', column=column) == TEXTS


@pytest.mark.parametrize("column", ["text", "error"])
def test_a_csv_file_with_a_column_called_error(column: str, tmp_path: Path, trained: Trained) -> None:
    other = "error" if column == "text" else "kind"
    (tmp_path / "a.csv").write_text("\n".join([f"{column},{other}", *(f"{t},x" for t in TEXTS)]))
    assert trained(column=column) == trained(f"{other} == x", column=column) == TEXTS


def test_what_to_do_about_a_type_is_told_with_it(tmp_path: Path) -> None:
    shard(tmp_path, "a", text=TEXTS, score=list(range(40)))
    wanted, listing = columns_of([Filter.parse("score == high")]), listed([(resolve(str(tmp_path)), "text", 1)])
    for stopped in (lambda: build(listing, extra=wanted), lambda: list(Reader(listing, extra=wanted).rows())):
        with pytest.raises(Unfit, match=r"a\.parquet: the column 'score' holds int64") as found:
            stopped()
        assert "a value of its own type" in found.value.remedy
