"""Text of a model in training: shown where there is any, and never at the model's cost."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from headrace.artifacts.checkpoint import read_commit, verify
from headrace.train.samples import after, before
from tests.scoring.small import VOCABULARY, Fixed, certain, encoder
from tests.train.conftest import Train, strict


def test_a_model_without_probabilities_has_a_sample_that_says_so(caplog: pytest.LogCaptureFixture) -> None:
    word = int(encoder().encode([" import"])[0][0])
    samples = before(certain(word), encoder(), ["a", "b"], seed=1)
    assert samples[0]["before"].startswith(" import import")
    with caplog.at_level(logging.WARNING, "headrace"):
        found = after(Fixed(torch.full((VOCABULARY,), torch.nan)), encoder(), samples, seed=1)
    said = "(no text: the model gives no finite probabilities)"
    assert found == [{**sample, "after": said} for sample in samples]
    assert [r.getMessage() for r in caplog.records] == [
        f"no sample of {p!r}: the model gives no finite probabilities" for p in ("a", "b")
    ]


def test_a_model_that_the_last_step_broke_is_committed_all_the_same(train: Train, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(out, max_steps=1, learning_rate=1e38, max_grad_norm=1e38, lr_scheduler_type="constant", sample_prompt=["The"])
    verify(out, read_commit(out))
    (sample,) = strict(out / "headrace.json")["samples"]
    assert sample["after"] == "(no text: the model gives no finite probabilities)" != sample["before"]
