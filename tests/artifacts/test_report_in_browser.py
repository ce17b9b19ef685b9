"""The page of a run as Chromium shows it: figures that are there, light and dark, on a desk and on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.artifacts.report import write_report
from tests.artifacts.test_report import LINEAGE, METRICS, PREVIOUS, TRAINING, VALIDATION
from tests.servers.browser import Browser, chromium

pytestmark = pytest.mark.skipif(chromium() is None, reason="no chromium here; .ci/run installs it")

FIGURES = """
[...document.querySelectorAll("figure svg")].filter(s => s.getBoundingClientRect().width).map(s => {
  const box = s.getBoundingClientRect(), paths = [...s.querySelectorAll("path")];
  return {
    title: s.querySelector("title").textContent, width: box.width, height: box.height,
    right: box.right, texts: [...s.querySelectorAll("text")].length,
    drawn: paths.filter(p => p.getTotalLength() > 50).length,
    smallest: Math.min(...[...s.querySelectorAll("text")].map(t => t.getBoundingClientRect().height)),
  };
})
"""
TITLES = ["Loss over steps", "Throughput over steps", "Learning rate over steps", "Loss by tokens in view"]
STROKE = "getComputedStyle(document.querySelector('figure path[style*=\"--train\"]')).stroke"
WIDER_THAN_THE_PAGE = """
[...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll") && !e.closest("svg") && !e.closest(".skip")
  && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.outerHTML.slice(0, 90))
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(
        path, title="step-100-1a2b3c4d on held-out documents", training=TRAINING, validation=VALIDATION,
        metrics=METRICS, lineage=LINEAGE, previous=PREVIOUS,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_figures_are_there(width: int, dark: bool, browser: Browser, report: Path, tmp_path: Path) -> None:
    assert report.stat().st_size < 3_000_000
    browser.open(report, width=width, dark=dark)
    figures = browser.ask(FIGURES)
    assert [figure["title"] for figure in figures] == TITLES
    for figure in figures:
        assert figure["width"] > min(300, width - 60) and figure["height"] > 120 and figure["right"] <= width
        # A line that is drawn, and labels that can be read.
        assert figure["drawn"] >= 1 and figure["texts"] >= 6 and figure["smallest"] >= 9
    # Nothing was fetched but the page, and nothing is wrong with it.
    assert browser.requests in ([], [report.absolute().as_uri()]) and browser.messages == []
    browser.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000


def test_nothing_is_wider_than_a_phone(browser: Browser, report: Path) -> None:
    browser.open(report, width=390)
    browser.ask("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert browser.ask("document.documentElement.scrollWidth") <= 390
    assert browser.ask(WIDER_THAN_THE_PAGE) == []
    assert browser.ask("parseFloat(getComputedStyle(document.body).fontSize)") >= 16


def test_dark_is_dark_and_light_is_light(browser: Browser, report: Path) -> None:
    def lightness() -> tuple[float, float]:
        found = browser.ask("['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name]).join(' ')")
        numbers = [int(n) for n in re.findall(r"\d+", found)]
        return sum(numbers[:3]) / 765, sum(numbers[3:6]) / 765

    browser.open(report, width=800, dark=True)
    paper, ink = lightness()
    assert paper < 0.2 and ink > 0.8
    stroke = browser.ask(STROKE)
    browser.open(report, width=800)
    paper, ink = lightness()
    assert paper > 0.8 and ink < 0.2 and stroke != browser.ask(STROKE)
