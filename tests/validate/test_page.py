"""The page of a validation in a browser, and for those who do not see it."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from tests.servers.browser import Browser, chromium
from tests.validate.conftest import Result
from tests.validate.traps_text import wrong_language_after_shard_3

Validate = Callable[..., Result]
HEIGHTS = "[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().height)"


@pytest.fixture
def page(validate: Validate, tmp_path: Path) -> Path:
    """A page with every kind of chart."""
    folder = tmp_path / "data"
    folder.mkdir()
    wrong_language_after_shard_3(folder)
    return validate(str(folder)).folder / "report.html"


class Elements(HTMLParser):
    """Elements of a page with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_it_can_be_read_without_seeing_it_and_without_a_mouse(page: Path) -> None:
    html = page.read_text("utf-8")
    elements = Elements(html)
    assert elements.of("html")[0]["lang"] and elements.of("main") and elements.of("title")
    ids = [a["id"] for _, a in elements.found if a.get("id")]
    assert len(ids) == len(set(ids))
    pictures = [a for a in elements.of("svg") if a.get("role") == "img"]
    assert len(pictures) == 3  # length, density, the language
    for attributes in pictures:
        named = str(attributes["aria-labelledby"]).split()
        assert set(named) <= set(ids) and len(named) == 2
    assert "en: 50.0 %, de: 50.0 %" in html
    for attributes in elements.of("section"):
        assert attributes["aria-labelledby"] in ids
    assert {str(a["href"])[1:] for a in elements.of("a")} <= set(ids)
    # Headings go down one level at a time; what opens is a summary, which the keyboard reaches.
    levels = [int(tag[1]) for tag, _ in elements.found if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    assert len(elements.of("summary")) == len(elements.of("details")) > 0
    assert not any(int(a.get("tabindex") or 0) > 0 for _, a in elements.found)


@pytest.mark.skipif(chromium() is None, reason="no chromium here; .ci/run installs it")
def test_a_browser_draws_it_at_any_width_without_a_scroll_bar(page: Path) -> None:
    with Browser() as browser:
        for width in (400, 1100):
            browser.open(page, width=width)
            assert browser.ask("document.documentElement.scrollWidth") <= width
            shown = browser.ask(
                "[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().height)"
            )
            assert len(shown) == 3 and min(shown) > 40
            assert browser.messages == []
