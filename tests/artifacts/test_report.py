"""The page of a run: complete, self-contained, well-formed, and honest about what is missing."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from headrace.artifacts import report_charts as charts
from headrace.artifacts import report_format as show
from headrace.artifacts.report import write_report, write_validation_report

VOID = {"meta", "br", "path", "use", "circle", "rect", "line"}
HISTORY = [
    {"step": s, "loss": 3 + 5 * math.exp(-s / 20), "learning_rate": 1e-3 * s / 100, "tokens_per_s": 20_000.0 + s}
    for s in range(5, 105, 5)
]
DATASET = {
    "name": "some/data", "config": "c1", "split": "train", "revision": "0a1b", "manifest_hash": "ab" * 32, "files": 6,
    "row_groups": 18, "rows": 57, "text_bytes": 1_560_000,
}  # fmt: skip
TRAINING = {
    "version": "0.1.0", "plan_hash": "cd" * 32, "dataset": DATASET, "heldout": {"digest": "ef" * 32, "documents": 6},
    "world_size": 2, "global_batch": 16, "per_device_batch": 4, "accumulation": 2, "block": 256, "lanes": 8,
    "steps": 100, "tokens": 409_600, "seconds": 83.2, "tokens_per_s": 4_923.1, "parameters": 1_368_064,
    "samples": [{"prompt": "The with", "before": "The with xx<b>x</b>", "after": "The with statement"}],
    "history": [*HISTORY, {"step": 100, "train_runtime": 83.2}],
    "packages": {"torch": "2.13.0"}, "stream": {"dropped": {"blank": 3, "score > <b>": 1_204}, "epochs": [0, 2]},
}  # fmt: skip
METRICS = {
    "eval_loss": 4.118, "eval_loss_interval": [4.021, 4.209], "perplexity": 61.4, "perplexity_interval": [55.8, 67.3],
    "accuracy": 0.3127, "accuracy_interval": [0.298, 0.327], "bits_per_byte": 1.7341, "tokens": 61_234,
    "documents": 6, "unigram_loss": 6.731, "loss_over_unigram": 0.6118, "my_metric": 0.25, "heldout": "ef" * 32,
    "block": 256,
    "gate": {
        "mode": "block", "outcome": "passed", "reasons": ["no threshold was set", "its loss is -0.1230 nats a token"],
        "comparison": {
            "version": "step-90-0f0f0f0f", "max_regression": 0.0, "difference": -0.123, "interval": [-0.2, -0.05],
            "confidence": 0.95,
        },
    },
    "by_source": [
        {"source": "pages", "eval_loss": 4.0, "eval_loss_interval": [3.9, 4.1], "accuracy": 0.32, "tokens": 50_000,
         "documents": 4},
        {"source": "books", "eval_loss": 4.4, "accuracy": 0.29, "tokens": 11_234, "documents": 2},
    ],
    "by_length": [
        {"length": [65, 256], "eval_loss": 4.5, "accuracy": 0.3, "tokens": 234, "documents": 1},
        {"length": [16_385, None], "eval_loss": 4.1, "accuracy": 0.31, "tokens": 61_000, "documents": 5},
    ],
    "by_position": [
        {"context": [2 ** (i - 1) + 1 if i else 1, 2**i], "tokens": 6 * 2**i, "eval_loss": 7 - i / 2} for i in range(8)
    ],
}  # fmt: skip
PREVIOUS: dict[str, Any] = {
    "name": "step-90-0f0f0f0f", "where": "the model promoted last in gs://b/shelf",
    "metrics": {"eval_loss": 4.241, "perplexity": 69.5, "accuracy": 0.32, "heldout": "ef" * 32, "block": 256},
    "lineage": {"dataset": {"name": "some/data"}, "training": {"global_batch": 8}, "packages": {"x": "0"},
                "plan_hash": "aa"},
}  # fmt: skip
VALIDATION = {
    "verdict": "warn",
    "findings": [
        {"code": "few-units", "severity": "info", "message": "Few.", "evidence": {}, "remedy": ""},
        {
            "code": "duplicate-rows", "severity": "warn", "message": "Copies.", "remedy": "Set --dataset_name again.",
            "evidence": {"rows": 57, "examples": ["a.parquet, row group 1, row 3"]},
        },
    ],
    "dataset": DATASET,
}  # fmt: skip
LINEAGE = {
    "dataset": {"name": "some/data"},
    "training": {"global_batch": 16},
    "checkpoint": {"step": 100},
    "image": None,
    "packages": {"x": "1"},
}


class Page(HTMLParser):
    """Checks nesting and collects what accessibility hangs on."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.tags.append((tag, values))
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag]


def page(path: Path, **parts: Any) -> tuple[str, Page]:
    write_report(path / "report.html", title=parts.pop("title", "A run"), **parts)
    html = (path / "report.html").read_text("utf-8")
    return html, Page(html)


@pytest.fixture
def full(tmp_path: Path) -> tuple[str, Page]:
    return page(tmp_path, training=TRAINING, validation=VALIDATION, metrics=METRICS, lineage=LINEAGE, previous=PREVIOUS)


def test_everything_there_is_is_shown(full: tuple[str, Page]) -> None:
    _, shown = full
    text = re.sub(r"\s+", " ", shown.text)
    for said in (
        "4.118", "95 % interval 4.021 – 4.209", "61 % of the unigram baseline, 6.731", "31.3 %", "1.734", "410 k",
        "4.92 k tokens/s", "1 min 23 s on 2 ranks", "some/data · c1", "0a1b", "ab" * 32, "cd" * 32, "1.56 MB",
        "2 ranks × 4 samples × 2 micro-batches", "1.37 M", "1 warning, 1 note", "duplicate-rows", "my metric",
        "a.parquet, row group 1, row 3", "dataset · name", "2.13.0", "Loss over steps", "Throughput over steps",
        "Learning rate over steps", "Before training", "After training", "Loss by tokens in view", "16,385 or more",
        "no threshold was set", "-0.1230", "-0.2000 – -0.0500", "each with 95 % confidence", "books",
        "Both were scored on the same documents.", "4.24104.1180-0.1230 better", "32.00 %31.27 %-0.73 % worse",
    ):  # fmt: skip
        assert said in text, said
    # The gravest finding comes first.
    assert text.index("duplicate-rows") < text.index("few-units")
    assert "1 to 3, by lane" in text and "3 blank, 1,204 score > <b>" in text


def test_nothing_is_fetched_and_nothing_runs(full: tuple[str, Page]) -> None:
    html, shown = full
    assert not re.search(r"https?:|\bsrc=|url\((?!#)|@import|<script|<link|javascript:|\bon\w+=", html)
    assert all(str(a.get("href")).startswith("#") for a in shown.all("a"))
    assert "default-src 'none'" in html and len(html) < 300_000


def test_the_page_is_usable_without_seeing_it(full: tuple[str, Page]) -> None:
    html, shown = full
    assert len(shown.ids) == len(set(shown.ids))
    for tag, attributes in shown.tags:
        for name in ("aria-labelledby", "href", "xlink:href"):
            for target in str(attributes.get(name) or "").split():
                assert target.removeprefix("#") in shown.ids, (tag, target)
    for clip in re.findall(r"url\(#([^)]+)\)", html):
        assert clip in shown.ids
    assert len(shown.all("h1")) == 1 and len(shown.all("h2")) == 8
    assert all(a.get("scope") in ("row", "col") for a in shown.all("th"))
    pictures = [a for a in shown.all("svg") if a.get("aria-hidden") != "true"]
    assert len(pictures) == 6 and all(a.get("role") == "img" and a.get("aria-labelledby") for a in pictures)
    assert shown.tags[1][1] == {"lang": "en"} or ("html", {"lang": "en"}) in shown.tags


def test_charts_take_their_colours_from_the_page(full: tuple[str, Page]) -> None:
    html, _ = full
    drawn = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}\b", drawn) and "var(--train)" in drawn and "var(--baseline)" in drawn
    assert "prefers-color-scheme: dark" in html


def test_what_models_and_documents_say_is_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&"
    training = {
        **TRAINING, "samples": [{"prompt": evil, "before": evil, "after": evil + "x"}],
        "dataset": {**DATASET, "name": evil},
    }  # fmt: skip
    finding = {"code": evil, "severity": "warn", "message": evil, "remedy": evil, "evidence": {evil: evil}}
    html, shown = page(
        tmp_path, title=evil, training=training, lineage={evil: evil},
        validation={"verdict": "warn", "findings": [finding]},
    )  # fmt: skip
    assert "<script" not in html and not shown.all("script")
    assert shown.text.count(evil) >= 10


def test_lone_surrogates_and_controls_do_not_stop_it(tmp_path: Path) -> None:
    samples = [{"prompt": "a", "before": "a\ud800\x00", "after": None}]
    html, _ = page(tmp_path, training={**TRAINING, "samples": samples})
    assert "Before training" in html and "After training" not in html


def test_what_was_done_differently_is_told(full: tuple[str, Page]) -> None:
    text = re.sub(r"\s+", " ", full[1].text)
    told = text[text.index("What was done differently") : text.index("Generated text The same")]
    # Names of things that differ between any two runs are left out, and what is equal.
    assert "training · global batch816" in told and "packages · x01" in told
    assert "plan hash" not in told and "some/data" not in told


@pytest.mark.parametrize(
    ("before", "said"),
    [({"heldout": "other"}, "on different documents"), ({"block": 8}, "a different number of tokens in view")],
)
def test_scores_of_other_terms_are_not_compared_without_a_word(
    before: dict[str, Any], said: str, tmp_path: Path
) -> None:
    previous = {**PREVIOUS, "metrics": {**PREVIOUS["metrics"], **before}}
    _, shown = page(tmp_path, metrics=METRICS, previous=previous)
    assert said in shown.text


def test_an_earlier_run_without_scores_is_not_shown(tmp_path: Path) -> None:
    _, shown = page(tmp_path, metrics=METRICS, previous={"name": "x", "metrics": {"eval_loss": None}})
    assert "Beside the run before" not in shown.text


def test_a_gate_that_did_not_judge_says_so(tmp_path: Path) -> None:
    gate: dict[str, Any] = {"mode": "off", "outcome": "not judged", "reasons": [], "comparison": None}
    _, shown = page(tmp_path, metrics={**METRICS, "gate": gate})
    assert "not judged" in shown.text and "Compared with" not in shown.text


@pytest.mark.parametrize("missing", ["training", "validation", "metrics", "lineage"])
def test_parts_are_left_out(missing: str, tmp_path: Path) -> None:
    parts: dict[str, Any] = {"training": TRAINING, "validation": VALIDATION, "metrics": METRICS, "lineage": LINEAGE}
    parts[missing] = None
    _, shown = page(tmp_path, **parts)
    name = {"training": "Training", "validation": "Validation", "metrics": "Evaluation", "lineage": "Lineage"}[missing]
    assert f"\n{name}\n" not in shown.text and {"id": missing} not in shown.all("h2")


def test_nothing_at_all(tmp_path: Path) -> None:
    _, shown = page(tmp_path, title="Nothing")
    assert shown.all("section") == [] and "Nothing" in shown.text


def test_numbers_that_json_cannot_carry(tmp_path: Path) -> None:
    note = "not a number that JSON can carry: inf"
    metrics = {**METRICS, "perplexity": None, "perplexity_note": note, "perplexity_interval": [55.0, None]}
    history = [{"step": 1, "loss": None}, *HISTORY, {"step": None, "loss": 1.0}, {"loss": 2.0}]
    _, shown = page(tmp_path, training={**TRAINING, "history": history}, metrics=metrics)
    assert note in shown.text and "too large" in shown.text


def test_one_log_entry_makes_a_table_and_no_chart(tmp_path: Path) -> None:
    """As a run of 500 to 999 steps has it, which logs every 500."""
    html, shown = page(tmp_path, training={**TRAINING, "history": HISTORY[:1]})
    assert "Loss over steps" not in html and "behind the charts" not in html
    assert "training" in shown.ids and shown.all("caption") and "6.8940" in shown.text
    assert not shown.all("details")


def test_a_log_without_numbers_makes_no_section(tmp_path: Path) -> None:
    for history in ([], [{"step": 1, "loss": None}]):
        _, shown = page(tmp_path, training={**TRAINING, "history": history})
        assert "training" not in shown.ids


def test_held_out_losses_during_training_are_a_line(tmp_path: Path) -> None:
    history = [*HISTORY, *({"step": s, "eval_loss": 6 - s / 50} for s in (25, 50, 75, 100))]
    _, shown = page(tmp_path, training={**TRAINING, "history": history})
    assert "held-out loss, last" in shown.text
    _, shown = page(tmp_path, training={**TRAINING, "history": history}, metrics=METRICS)
    assert "held-out loss " in shown.text and "4.118" in shown.text


def test_a_long_run_stays_small(tmp_path: Path) -> None:
    history = [{"step": s, "loss": 3 + 1 / s, "learning_rate": 1e-4, "tokens_per_s": 1e6} for s in range(1, 20_000)]
    html, shown = page(tmp_path, training={**TRAINING, "history": history})
    assert len(html) < 200_000 and "Each point is the mean of 50 logged values." in shown.text
    assert len(shown.all("tr")) < 80


def test_the_same_inputs_make_the_same_bytes(tmp_path: Path) -> None:
    first, _ = page(tmp_path, training=TRAINING, metrics=METRICS, validation=VALIDATION, lineage=LINEAGE)
    copied = json.loads(json.dumps([TRAINING, METRICS, VALIDATION, LINEAGE]))
    second, _ = page(tmp_path, training=copied[0], metrics=copied[1], validation=copied[2], lineage=copied[3])
    assert first == second


def test_a_users_matplotlib_settings_do_not_leak_in_or_out(tmp_path: Path) -> None:
    import matplotlib

    plain, _ = page(tmp_path, training=TRAINING)
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path"}):
        assert page(tmp_path, training=TRAINING)[0] == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_the_page_of_a_validation_without_findings(tmp_path: Path) -> None:
    write_validation_report(tmp_path / "v.html", title="V", validation={"verdict": "go", "findings": []})
    shown = Page((tmp_path / "v.html").read_text("utf-8"))
    assert "every check passed" in shown.text and "Go" in shown.text


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (show.short, 999, "999"), (show.short, 1_000, "1 k"), (show.short, 999_960, "1.00 M"),
        (show.short, 1_638_400, "1.64 M"), (show.short, 2.5e12, "2.50 T"), (show.short, None, "–"),
        (show.short, True, "–"), (show.size, 12, "12 bytes"), (show.size, 1_561_234, "1.56 MB"),
        (show.headline, 99_999, "99,999"), (show.headline, 424_934, "425 k"), (show.headline, None, "–"),
        (show.count, 1234567, "1,234,567"), (show.percent, 0.3127, "31.3 %"), (show.percent, math.nan, "–"),
        (show.duration, 4.21, "4.2 s"), (show.duration, 59.6, "60 s"), (show.duration, 83.2, "1 min 23 s"),
        (show.duration, 7_261, "2 h 1 min"), (show.significant, 0.0012345, "0.00123"),
        (show.significant, 1e-9, "1.00e-09"), (show.significant, 0, "0"), (show.significant, 5, "5"),
        (show.significant, 5544, "5,544"), (show.interval, [1, 2.5], "1.000 – 2.500"), (show.interval, [1, None], ""),
        (show.interval, None, ""), (show.plain, [1, "a"], "1, a"), (show.plain, {"a": False}, "a: no"),
        (show.plain, [], "–"),
    ],
)  # fmt: skip
def test_numbers_are_worded(function: Any, value: object, text: str) -> None:
    assert function(value) == text


def test_thinning_keeps_the_mean() -> None:
    x, y, n = charts.thinned(range(1_000), [float(i % 2) for i in range(1_000)], 100)
    assert n == 10 and len(x) == 100 and set(y) == {0.5} and x[0] == 4.5
    assert charts.thinned([1.0], [2.0]) == ([1.0], [2.0], 1)
