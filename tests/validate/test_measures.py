"""What is measured in rows: overlap, other columns, profiles of files, tokens, rates."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import InputError
from headrace.stream.heldout import SCHEMA, HeldOut, content_hash
from headrace.stream.manifest import Manifest, ManifestFile, Part
from headrace.stream.source import resolve
from headrace.stream.survey import listed, survey
from headrace.stream.tokenizer import load_encoder
from headrace.validate import columns, counting, offers, profile
from headrace.validate.findings import Thresholds, warn_from
from headrace.validate.forecast import Rates
from headrace.validate.overlap import N, Overlap, grams
from headrace.validate.seen import Examples, Place, Seen
from tests.validate.conftest import MODEL
from tests.validate.traps import CHINESE, GERMAN, prose, varied, write


def heldout(texts: list[str]) -> HeldOut:
    rows = [(t, "f", 0, i, content_hash(t)) for i, t in enumerate(texts)]
    arrays = [pa.array(list(c), t) for c, t in zip(zip(*rows, strict=True), SCHEMA.types, strict=True)]
    return HeldOut(pa.table(arrays, schema=SCHEMA))


def seen(texts: list[str], file: int = 0, **others: Any) -> Seen:
    places = [Place(file, 0, i, f"f{file}") for i in range(len(texts))]
    return Seen(
        file=file, path=f"f{file}", table=pa.table({"text": texts, **others}), documents=texts, places=places,
        hashes=np.array([content_hash(t) for t in texts], np.uint64),
    )  # fmt: skip


words = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=60)


@given(st.lists(words, min_size=1, max_size=4), st.lists(words, max_size=6))
def test_overlap_is_that_of_sets_of_ngrams(held: list[list[str]], trained: list[list[str]]) -> None:
    def ngrams(text: list[str]) -> set[tuple[str, ...]]:
        return {tuple(text[i : i + N]) for i in range(len(text) - N + 1)}

    texts = list(dict.fromkeys(" ".join(h) for h in held))
    found = Overlap(heldout(texts))
    found.look(seen([" ".join(t) for t in trained]))
    there = set().union(*(ngrams(t) for t in trained if " ".join(t) not in texts), set())
    own = [ngrams(t.split()) for t in texts]
    assert found.shares() == [len(o & there) / len(o) if o else None for o in own]


def test_a_document_that_is_held_out_does_not_overlap_with_itself() -> None:
    texts = prose(5)
    found = Overlap(heldout(texts))
    found.look(seen(texts))
    assert found.documents == 0 and not found.overlapping(0.8)
    found.look(seen([texts[2] + " and a little more"]))
    assert [p.row for p in found.overlapping(0.8)] == [2]


def test_ngrams_do_not_depend_on_white_space() -> None:
    text = prose(1)[0]
    assert np.array_equal(grams(text), grams("\n ".join(text.split()))) and len(grams(text)) == len(text.split()) - 12
    assert len(grams("twelve words are too few " * 2)) == 0


@given(st.text(alphabet="ab \n", max_size=400), st.integers(1, 50))
def test_pieces_are_the_text(text: str, characters: int) -> None:
    found = list(counting.pieces(text, characters))
    assert "".join(found) == text and all(len(p) >= characters for p in found[:-1])


def test_a_long_document_has_about_the_tokens_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n\n".join(prose(200))
    whole = counting.TokenCounter(load_encoder(MODEL))
    exact = int(whole.lengths([text], np.array([len(text.encode())]))[0])
    monkeypatch.setattr(counting, "CUT_CHARACTERS", 3_000)
    monkeypatch.setattr(counting, "pieces", lambda t: list(PIECES(t, 3_000)))
    parts = counting.TokenCounter(load_encoder(MODEL))
    assert int(parts.lengths([text], np.array([len(text.encode())]))[0]) == pytest.approx(exact, rel=1e-3)
    assert parts.cut == 1 and whole.cut == 0 and whole.tokens == exact


PIECES = counting.pieces


def test_columns_are_described_where_they_are_categories_or_numbers() -> None:
    found = columns.Columns(["language", "score", "id", "flag", "mail"])
    for i in range(4):
        found.look(
            seen(
                prose(50), i, language=["en"] * 40 + ["de"] * 9 + [None], score=[j / 50 for j in range(50)],
                id=[f"{i}-{j}" for j in range(50)], flag=[j % 2 == 0 for j in range(50)], mail=["a.b@example.org"] * 50,
            )
        )  # fmt: skip
    report = found.report()
    assert set(report) == {"language", "score", "flag", "mail"}
    assert report["language"]["values"] == [["en", 160], ["de", 36]] and report["language"]["nulls"] == 4
    assert report["score"]["kind"] == "number" and report["score"]["p50"] == pytest.approx(0.49)
    assert sum(report["score"]["counts"]) == 200
    assert report["mail"]["values"] == [] and report["mail"]["other"] == 200


def test_only_small_plain_columns_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write(
        folder, 0, prose(400), rows=400, language=["en"] * 400, score=[i / 400 for i in range(400)],
        copy=[Random(i).randbytes(1_000).hex() for i in range(400)], tags=[["a"]] * 400,
    )  # fmt: skip
    manifest = survey(listed([(resolve(str(folder)), "text", 1)])).manifest
    assert offers.describable(manifest) == ("language", "score")


@given(st.lists(st.floats(0, 1), min_size=1), st.lists(st.floats(0, 1), min_size=1))
def test_differences_are_distances(one: list[float], other: list[float]) -> None:
    a, b = np.sort(one), np.sort(other)
    assert columns.largest_gap(a, a) == 0 and 0 <= columns.largest_gap(a, b) <= 1
    assert columns.largest_gap(a, b) == pytest.approx(columns.largest_gap(b, a))
    assert columns.largest_gap(a, a + 2) == 1


def test_variation() -> None:
    en, mixed, de = Counter(en=10), Counter(en=5, de=5), Counter(de=3)
    assert columns.variation(en, en) == 0 and columns.variation(en, de) == 1 and columns.variation(en, mixed) == 0.5


def test_profiles_tell_languages_apart_and_not_subjects() -> None:
    found = profile.Profiles()
    for file in range(6):
        found.look(seen(prose(100, 100 * file), file))
    assert found.grouped(0.6) == [[0, 1, 2, 3, 4, 5]]
    found.look(seen(varied(GERMAN, 100), 6))
    found.look(seen(varied(CHINESE, 300, ""), 7))
    assert found.grouped(0.6) == [[0, 1, 2, 3, 4, 5], [6], [7]]


@given(st.dictionaries(st.integers(0, 50), st.floats(0, 10), max_size=30), st.floats(0.1, 5))
def test_groups_hold_everything_once(things: dict[int, float], limit: float) -> None:
    groups = profile.leaders(things, lambda a, b: abs(a - b), limit)
    assert sorted(n for g in groups for n in g) == sorted(things) and len(groups) <= profile.MOST_GROUPS
    assert [len(g) for g in groups] == sorted((len(g) for g in groups), reverse=True)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), max_size=30, unique=True))
def test_examples_are_the_first_places_whatever_the_order(order: list[tuple[int, int, int]]) -> None:
    found = Examples()
    for f, g, r in order:
        found.note("x", Place(f, g, r, f"f{f}"))
    assert found.places.get("x", []) == [Place(f, g, r, f"f{f}") for f, g, r in sorted(order)[:5]]


def rates(read: float | None, encoded: float | None) -> Rates:
    return Rates(
        read_tokens_per_s=read, encoded_tokens_per_s=encoded, read_bytes_per_s=None, readers=4, encoders=2, encoder="x"
    )


def test_a_rank_gets_the_slower_of_reading_and_encoding() -> None:
    assert (rates(10, 100).rank_tokens_per_s, rates(10, 100).slower) == (40, "reading")
    assert (rates(100, 10).rank_tokens_per_s, rates(100, 10).slower) == (20, "encoding")
    assert rates(None, 10).rank_tokens_per_s == 20 and rates(None, None).rank_tokens_per_s is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"warn_wastd": 0.1}, "nearest: warn_wasted"),
        ({"warn_wasted": "much"}, "expected a number"),
        ({"warn_wasted": None}, "expected a number"),
        ({"warn_wasted": True}, "expected a number"),
        ({"warn_drift": -1}, "expected a number"),
        ([0.1], "expected names and numbers"),
    ],
)
def test_thresholds_that_do_not_fit_are_named(changes: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Thresholds.parse(changes)


def test_thresholds_are_changed_one_by_one() -> None:
    changed = Thresholds.parse({"warn_wasted": 0.1, "warn_drift": None})
    assert changed.warn_wasted == 0.1 and changed.no_go_wasted == 0.5 and changed.warn_drift is None
    assert warn_from(0.5, None) == "info" and warn_from(0.5, 0.5) == "warn" and warn_from(0.4, 0.5) == "info"


def test_there_is_nothing_to_describe_before_a_file_with_rows_is_known(tmp_path: Path) -> None:
    assert offers.describable(Manifest((Part(name="d", files=(ManifestFile("f", "f", 1, ""),)),))) == ()
    pq.write_table(pa.table({"text": prose(3), "n": [1, 2, 3]}), tmp_path / "a.parquet")
    manifest = survey(listed([(resolve(str(tmp_path / "a.parquet")), "text", 1)])).manifest
    assert offers.describable(manifest) == ("n",)
