"""The parts of validation that are pure functions."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.stream.manifest import Manifest, ManifestFile, Part, RowGroup, RowGroups
from headrace.validate import signs
from headrace.validate.checks.files import units
from headrace.validate.estimates import distribution, per_byte, per_document, student, whole_tokens
from headrace.validate.findings import Finding, Severity, Thresholds, verdict
from headrace.validate.sample import spread
from headrace.validate.scan import GroupSums, Scan
from headrace.validate.summary import markdown


def manifest(*files: list[int], row_bytes: int = 100) -> Manifest:
    groups = [RowGroups([RowGroup(n, n * row_bytes) for n in sizes]) for sizes in files]
    made = tuple(ManifestFile(f"f{i}", f"f{i}", 1, "", "", g) for i, g in enumerate(groups))
    return Manifest((Part(name="d", files=made),))


@given(
    st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=6), min_size=1, max_size=6),
    st.integers(1, 400),
    st.integers(1, 40_000),
)
def test_a_sample_keeps_its_budget_and_is_in_the_data(files: list[list[int]], rows: int, text_bytes: int) -> None:
    source = manifest(*files)
    portions, complete = spread(source, rows=rows, text_bytes=text_bytes)
    assert complete == (source.rows <= rows and source.text_bytes <= text_bytes)
    looked = sum(p.take for p in portions)
    assert looked == (source.rows if complete else max(1, min(rows, text_bytes // 100)))
    assert len({(p.file, p.row_group) for p in portions}) == len(portions)
    for p in portions:
        numbers = p.numbers()
        assert 0 < p.take <= p.rows == files[p.file][p.row_group]
        assert len(np.unique(numbers)) == p.take and numbers[-1] < p.rows


def test_a_sample_is_spread_over_the_row_groups() -> None:
    portions, _ = spread(manifest(*([100] * 10 for _ in range(10))), rows=640, text_bytes=1 << 30)
    assert len(portions) == 64 and {p.take for p in portions} == {10}
    assert len({p.file for p in portions}) == 10 and portions[0].numbers().tolist() == list(range(0, 100, 10))


def test_a_million_row_groups_take_bounded_memory() -> None:
    """FineWeb has tens of millions."""
    table = np.tile(np.array([[1_000, 4_000_000, 0]]), (5_000, 1))
    files = tuple(ManifestFile(f"f{i}", f"f{i}", 1, "", "", RowGroups(table.copy())) for i in range(200))
    source = Manifest((Part(name="s", files=files),))
    tracemalloc.start()
    try:
        portions, complete = spread(source, rows=2_000, text_bytes=1 << 30)
        list(units(source, None, None))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not complete and len(portions) == 64 and peak < 64e6


@pytest.mark.parametrize(
    "text",
    [
        "plain ASCII,\twith tabs\r\nand lines\x0c",
        "Él dijo «Ánimo» … “sí” — là-bas, été… « déjà »",
        "„MENÜ“ und Größe, GRÜẞE",
        "ÂNGELA, PÃO, ÀS ÂNSIAS — ‘não’",
        "Москва — «Привет»",
        "日本語のテキスト。中文文本",
        "Ελληνικά, עברית, العربية",
        "emoji 😀 and é, ï, ð",
        "next line\x85here",
    ],
)
def test_clean_text_raises_no_alarm(text: str) -> None:
    assert not signs.has_control(text) and not signs.has_replacement(text) and not signs.has_mojibake(text)


@pytest.mark.parametrize("wrong", ["latin-1", "cp1252"])
@pytest.mark.parametrize(
    "text",
    [
        "café",
        "“quoted”",
        "10 £",
        "Москва и Киев",
        "Αθήνα",
        "日本語のテキスト",
        "smile 😀",
        "\ufffd",
        "naïve – yes",
        "مرحبا",
    ],
)
def test_utf8_read_as_something_else_is_recognised(text: str, wrong: str) -> None:
    raw = text.encode()
    # Python's cp1252 refuses five bytes that browsers pass through as controls.
    damaged = "".join(bytes([b]).decode(wrong, "ignore") or chr(b) for b in raw)
    assert signs.has_mojibake(damaged)


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1b", "\x7f", "\x9f"])
def test_control_characters(character: str) -> None:
    assert signs.has_control(f"a{character}b")


def test_the_gravest_finding_decides() -> None:
    def of(*severities: Severity) -> str:
        return verdict(Finding(code="x", severity=s, message="m") for s in severities)

    assert of() == of("info") == "go"
    assert of("info", "warn") == "warn" and of("warn", "no-go", "info") == "no-go"


def test_thresholds_are_those_of_the_interface() -> None:
    limits = Thresholds()
    assert [limits.of_waste(s) for s in (0.049, 0.05, 0.5, 0.501)] == ["info", "warn", "warn", "no-go"]


def scan_of(*groups: tuple[int, int, int, int]) -> Scan:
    found = Scan(complete=False)
    found.groups = [
        GroupSums(rows=rows, looked=looked, text_bytes=size, documents=looked, tokens=tokens)
        for rows, looked, size, tokens in groups
    ]
    return found


def test_whole_tokens_follow_the_bytes() -> None:
    source = manifest([100] * 50)  # 500,000 bytes
    estimate, interval = whole_tokens(source, scan_of((100, 10, 10_000, 250), (100, 10, 10_000, 250)))
    assert estimate == 125_000 and interval == [125_000, 125_000]
    estimate, interval = whole_tokens(source, scan_of((100, 10, 10_000, 200), (100, 10, 10_000, 300)))
    assert estimate == 125_000 and interval is not None and interval[0] < 125_000 < interval[1]
    assert whole_tokens(source, scan_of((100, 10, 10_000, 250)))[1] is None
    assert whole_tokens(source, scan_of()) == (0, None)


Truth = tuple[float, float, float]


def sampled(
    generator: np.random.Generator, groups: int, chosen: int, looked: int, rows: int = 100
) -> tuple[Manifest, Scan, Truth]:
    """A dataset of row groups that differ, a sample of it, and what is true of the whole."""
    sizes = generator.integers(50, 350, (groups, rows))
    density = generator.normal(0.25, 0.03, (groups, 1)) + generator.normal(0, 0.05, (groups, rows))
    tokens = np.maximum(1, sizes * density).astype(int)
    file = ManifestFile("f", "f", 1, "", "", RowGroups([RowGroup(rows, int(s)) for s in sizes.sum(1)]))
    found = Scan(complete=False)
    places = [(g, np.arange(looked) * rows // looked) for g in generator.choice(groups, chosen, replace=False)]
    found.groups = [
        GroupSums(
            rows=rows, looked=looked, text_bytes=int(sizes[g].sum()), documents=looked,
            tokens=int(tokens[g, at].sum() + looked),
        )
        for g, at in places
    ]  # fmt: skip
    found.rows = chosen * looked
    found.tokens = np.concatenate([tokens[g, at] for g, at in places])
    found.sizes = np.concatenate([sizes[g, at] for g, at in places])
    whole = float(tokens.sum() + tokens.size), float(tokens.mean()), float(tokens.sum() / sizes.sum())
    return Manifest((Part(name="d", files=(file,)),)), found, whole


MEASURES = (whole_tokens, per_document, per_byte)


@pytest.mark.parametrize(
    ("groups", "chosen", "looked"),
    [(200, 40, 10), (200, 40, 100), (200, 5, 50), (64, 64, 10), (1, 1, 40), (4, 4, 20)],
    ids=["clusters", "whole-clusters", "few-clusters", "all-clusters", "one-group", "few-groups"],
)
def test_intervals_cover_the_truth_about_as_often_as_they_say(groups: int, chosen: int, looked: int) -> None:
    generator = np.random.default_rng(3)
    hits, rounds = np.zeros(3), 400
    for _ in range(rounds):
        source, found, truth = sampled(generator, groups, chosen, looked)
        for i, (measure, true) in enumerate(zip(MEASURES, truth, strict=True)):
            value, interval = measure(source, found)
            assert value is not None and interval is not None and interval[0] <= value <= interval[1]
            hits[i] += interval[0] <= true <= interval[1]
    assert (hits / rounds > 0.91).all() and (hits / rounds < 0.995).all(), hits / rounds


def test_intervals_shrink_with_the_root_of_what_is_looked_at() -> None:
    generator = np.random.default_rng(4)
    widths: dict[int, list[list[float]]] = {16: [], 256: []}
    for n, found_widths in widths.items():
        for _ in range(30):
            source, found, _ = sampled(generator, 4_000, n, 10, rows=20)
            answers = [m(source, found) for m in MEASURES]
            found_widths.append([(i[1] - i[0]) / v for v, i in answers if v and i])
    ratio = np.mean(widths[16], 0) / np.mean(widths[256], 0)
    assert np.allclose(ratio, 4.3, rtol=0.12), ratio  # the root of 16, and Student's t of 15 is 1.09 of the normal's


def test_intervals_of_everything_are_points() -> None:
    source, found, (_, document, byte) = sampled(np.random.default_rng(5), 3, 3, 100)
    found.complete = True
    assert per_document(source, found) == (document, [document, document])
    assert per_byte(source, found) == (byte, [byte, byte])


def test_nothing_looked_at_has_no_interval() -> None:
    source = manifest([100] * 3)
    assert per_document(source, Scan(complete=False)) == per_byte(source, Scan(complete=False)) == (None, None)
    one = Scan(complete=False)
    one.groups, one.rows = [GroupSums(rows=100, looked=1, text_bytes=100, documents=1, tokens=6)], 1
    one.tokens, one.sizes = np.array([5]), np.array([20])
    assert per_document(source, one) == (5.0, None) and whole_tokens(source, one)[1] is None


def test_documents_without_a_token_do_not_shift_the_row_groups() -> None:
    """The tokens a byte are the same in each row group, and so there is nothing that differs between them."""
    found = Scan(complete=False)
    found.groups = [
        GroupSums(rows=100, looked=9, text_bytes=100, documents=n, tokens=n * 11) for n in (2, 0, 3, 1)
    ]  # fmt: skip
    found.rows, found.tokens = 36, np.array([10, 0, 10, 10, 0, 10, 10, 10, 0])
    found.sizes = np.where(found.tokens > 0, 40, 0)
    value, interval = per_byte(manifest([100] * 9), found)
    assert value == 0.25 and interval is not None and interval == pytest.approx([0.25, 0.25])


def test_students_t() -> None:
    table = {2: 4.303, 3: 3.182, 5: 2.571, 10: 2.228, 30: 2.042, 1000: 1.962}
    assert [student(n) for n in table] == pytest.approx(list(table.values()), rel=0.05)


def test_distribution() -> None:
    assert distribution(np.array([], np.int64)) == {}
    assert distribution(np.arange(1, 102)) == {"p1": 2, "p5": 6, "p50": 51, "p95": 96, "p99": 100, "max": 101}


def test_markdown_shows_names_as_they_are() -> None:
    looked = {"looked_at": {"complete": True, "rows": 1}, "document_tokens": {}}
    report = {
        "verdict": "go",
        "tokenizer": {"name": "t|x"},
        "heldout": None,
        "plan": None,
        "measured": {"rank_tokens_per_s": None, "slower": "encoding"},
        "dataset": {"name": "a*b", "config": "", "split": "train", "revision": "", "files": 1, "row_groups": 1}
        | {"rows": 1, "text_bytes": 5},
        "facts": looked | dict.fromkeys(("nulls", "blanks", "duplicates", "damaged"), 0),
        "estimates": {"exact": True, "tokens": 1, "tokens_interval": None, "documents": 1}
        | dict.fromkeys(f"tokens_per_{of}{what}" for of in ("byte", "document") for what in ("", "_interval")),
        "findings": [Finding(code="c", severity="info", message="see <b>x</b>", evidence={"n": 1}).to_json()],
    }
    text = markdown(report, "T")
    assert r"a\*b" in text and r"t\|x" in text and r"\<b\>x\</b\>" in text
    assert "### info: c" in text and "- n: 1" in text
