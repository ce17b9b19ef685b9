"""Which rows are trained: filters and copies, told by reason, the same whether encoded on the way or before."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import InputError
from headrace.stream import duplicates, tokenized
from headrace.stream.documents import Reader
from headrace.stream.duplicates import Duplicates
from headrace.stream.feed import Choice, TextFeed
from headrace.stream.filters import Filter, columns_of, first_refusal
from headrace.stream.heldout import make
from headrace.stream.order import Piece
from headrace.stream.steps import StepReader
from headrace.stream.tokenized import TokenFeed
from headrace.stream.tokenizer import Encoder
from headrace.stream.windows import Feed
from tests.stream.conftest import manifest_of
from tests.stream.oracle import make_plan

WORDS = ["alpha", "beta", "gamma", "delta"]
ROWS: list[dict[str, Any]] = [
    {
        "text": None if i % 23 == 5 else " " if i % 29 == 7 else f"{WORDS[i // 3 % 4]} {i // 3 % 31}",
        "score": None if i % 19 == 3 else (i * 7 % 10) / 10,
        "language": ["en", "de", "fr"][i % 3],
    }
    for i in range(200)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name, rows in (("a", ROWS[:90]), ("b", ROWS[90:])):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / f"{name}.parquet", row_group_size=25)
    return tmp_path / "data"


def trained(reader: Reader, feed: Feed, encoder: Encoder) -> tuple[Counter[str], Counter[str]]:
    """Texts of one epoch, and rows that were dropped by the reason."""
    plan = make_plan(lanes=3, global_batch=3, block=8, grouped=False, eos_id=encoder.eos_id, window_rows=40)
    stream = StepReader(plan, reader.shards, feed, epochs=1)
    found: Counter[str] = Counter()
    while not stream.ended:
        found.update(encoder.decode(s.ids[:-1]) for _, s in stream.next_step() if s is not None)
    return found, Counter(stream.dropped.counts())


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("score >= 0.5", lambda r: r["score"] is not None and r["score"] >= 0.5),
        ("score!=0.5", lambda r: r["score"] is not None and r["score"] != 0.5),
        ("language == en", lambda r: r["language"] == "en"),
        ("language == 'en'", lambda r: r["language"] == "en"),
        ('language in ["en", "fr"]', lambda r: r["language"] in ("en", "fr")),
        ("characters > 7", lambda r: len(r["text"] or "") > 7),
    ],
)
def test_a_filter_keeps_what_it_says(text: str, kept: Any, folder: Path) -> None:
    one = Filter.parse(text)
    reader = Reader(manifest_of(folder), extra=columns_of([one]))
    found = [bool(k) for place in reader.places() for k in one.keeps(reader.table(*place))]
    assert found == [kept(r) for r in ROWS]
    assert Filter.parse(str(one)) == one


@pytest.mark.parametrize("text", ["", "score", "score >", "score ~ 3", "score in 3", "score == [1]", 'a == {"b": 1}'])
def test_what_is_no_filter_is_told_with_examples(text: str) -> None:
    with pytest.raises(InputError, match="expected COLUMN OPERATOR VALUE"):
        Filter.parse(text)


def test_a_filter_on_what_the_files_do_not_have(folder: Path) -> None:
    with pytest.raises(InputError, match=r"a\.parquet: no column 'scores' \(nearest: score"):
        list(Reader(manifest_of(folder), extra=["scores"]).rows())
    reader = Reader(manifest_of(folder), extra=["score"])
    with pytest.raises(InputError, match=r"holds double, not to be compared with 'high'"):
        first_refusal([Filter.parse("score == high")], reader.table(0, 0))


def test_a_filter_on_what_json_lines_do_not_have(tmp_path: Path) -> None:
    lines = [json.dumps(r if i % 2 else {"text": "x"}) for i, r in enumerate(ROWS)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert len(list(Reader(manifest_of(tmp_path), extra=["score"]).rows())) == len(ROWS)
    with pytest.raises(InputError, match=r"a\.jsonl: no column 'scores' \(nearest: score"):
        list(Reader(manifest_of(tmp_path), extra=["scores"]).rows())


@pytest.mark.parametrize("dedup", ["", "row_window", "dataset"])
def test_every_row_is_trained_or_dropped_for_a_reason(
    dedup: Any, folder: Path, encoder: Encoder, tmp_path: Path
) -> None:
    filters = (Filter.parse("score >= 0.2"), Filter.parse("language != fr"))
    reader = Reader(manifest_of(folder), extra=columns_of(filters))
    heldout = make(reader, fraction=0.05).hashes
    bitmap = duplicates.find(reader, filters) if dedup == "dataset" else None
    choice = Choice(heldout=heldout, filters=filters, dedup=dedup, duplicates=bitmap)
    texts, dropped = trained(reader, TextFeed(reader, encoder, choice), encoder)
    assert texts.total() + dropped.total() == len(ROWS)
    assert dropped["score >= 0.2"] == sum(r["score"] is None or r["score"] < 0.2 for r in ROWS)
    if dedup == "dataset":
        passing = {
            r["text"] for r in ROWS
            if (r["text"] or "").strip() and (r["score"] or 0) >= 0.2 and r["language"] != "fr"
        }  # fmt: skip
        held = {t for t in passing if t not in texts}
        assert set(texts) == passing - held and set(texts.values()) == {1} and len(held) <= len(heldout)
    elif dedup == "row_window":
        assert 0 < dropped["duplicate"] < len(ROWS)
    else:
        assert not dropped["duplicate"]
    made = tokenized.save(tmp_path / "t", manifest_of(folder), reader, encoder, filters)
    again, dropped_again = trained(reader, TokenFeed(made, choice), encoder)
    assert again == texts and dropped_again == dropped


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(["a", "b", "c", "", None]), min_size=1, max_size=60), st.integers(1, 7), st.integers(1, 7)
)
def test_all_but_the_first_of_equal_documents_are_marked(texts: list[str | None], rows: int, per_file: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        for n, start in enumerate(range(0, len(texts), per_file)):
            table = pa.table({"text": pa.array(texts[start : start + per_file], pa.string())})
            pq.write_table(table, f"{place}/{n:03}.parquet", row_group_size=rows)
        reader = Reader(manifest_of(place))
        found = duplicates.find(reader)
        path = Path(place) / "duplicates"
        found.write(path)
        again = Duplicates.read(path, reader.manifest.hash)
        with pytest.raises(InputError, match="is of the manifest"):
            Duplicates.read(path, "another")
        counts = [(place, reader.manifest.files[place[0]].known[place[1]].rows) for place in reader.places()]
        # A row at a time, as lanes may cut them.
        marks = [bool(again.dropped([Piece(*p, row, row + 1)])[0]) for p, count in counts for row in range(count)]
    expected = [bool(t) and t in texts[:i] for i, t in enumerate(texts)]
    assert marks == expected and again.digest == found.digest and found.rows == sum(expected)
