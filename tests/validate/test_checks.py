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
from headrace.validate.estimates import distribution, whole_tokens
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


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    hits, rounds = 0, 300
    for _ in range(rounds):
        sizes = generator.integers(5_000, 20_000, 200)
        tokens = (sizes * generator.normal(0.25, 0.05, 200)).astype(int)
        file = ManifestFile("f", "f", 1, "", "", RowGroups([RowGroup(100, int(s)) for s in sizes]))
        source = Manifest((Part(name="d", files=(file,)),))
        chosen = generator.choice(200, 40, replace=False)
        _, interval = whole_tokens(source, scan_of(*((100, 100, int(sizes[i]), int(tokens[i])) for i in chosen)))
        assert interval is not None
        hits += interval[0] <= tokens.sum() <= interval[1]
    assert 0.88 < hits / rounds <= 1


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
        "estimates": {"exact": True, "tokens": 1, "tokens_interval": None, "documents": 1, "tokens_per_byte": None},
        "findings": [Finding(code="c", severity="info", message="see <b>x</b>", evidence={"n": 1}).to_json()],
    }
    text = markdown(report, "T")
    assert r"a\*b" in text and r"t\|x" in text and r"\<b\>x\</b\>" in text
    assert "### info: c" in text and "- n: 1" in text
