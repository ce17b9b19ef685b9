"""Continuations: the same each time, and of the model's making only."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPT2LMHeadModel

from headrace.scoring.generation import TEMPERATURE, generate
from tests.scoring.small import VOCABULARY, Fixed, certain, encoder, tiny_model

PROMPT = "Functions are"


class Watched(nn.Module):
    """A model that notes what it was shown."""

    def __init__(self, model: GPT2LMHeadModel) -> None:
        super().__init__()
        self.model, self.config, self.views = model, model.config, list[torch.Tensor]()

    def forward(self, input_ids: torch.Tensor, **how: Any) -> Any:
        self.views.append(input_ids)
        return self.model(input_ids=input_ids, **how)


def test_the_same_seed_gives_the_same_text() -> None:
    model = tiny_model().train()
    before = torch.get_rng_state()
    texts = [generate(model, encoder(), PROMPT, new_tokens=12, seed=s) for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert torch.equal(torch.get_rng_state(), before) and model.training


def test_greedy_takes_the_likeliest_token() -> None:
    model = tiny_model()
    ids = [encoder().eos_id, *encoder().encode([PROMPT])[0].tolist()]
    expected: list[int] = []
    for _ in range(6):
        with torch.no_grad():
            expected.append(int(model(torch.tensor([ids + expected])).logits[0, -1].argmax()))
    assert encoder().eos_id not in expected
    found = generate(model, encoder(), PROMPT, new_tokens=6, seed=0, temperature=0)
    assert PROMPT + found == encoder().decode([*ids[1:], *expected])


def test_the_end_of_a_text_ends_it() -> None:
    assert generate(certain(encoder().eos_id), encoder(), PROMPT, new_tokens=50, seed=0) == ""


@pytest.mark.parametrize("prompt", ["", "word " * 200])
@pytest.mark.parametrize("temperature", [0.0, TEMPERATURE])
def test_prompts_of_any_length(prompt: str, temperature: float) -> None:
    """Each token follows from what came before it, as far back as the model has positions."""
    model = Watched(tiny_model())
    first, second = (
        generate(model, encoder(), prompt, new_tokens=4, seed=0, temperature=temperature) for _ in range(2)
    )
    assert first == second
    views, again = model.views[:4], model.views[4:]
    assert len(views) == 4 and all(map(torch.equal, views, again))
    given = [encoder().eos_id, *encoder().encode([prompt])[0].tolist()]
    limit = model.config.n_positions
    assert (len(given) > limit) == bool(prompt)
    ids = list(given)
    for view, after in pairwise([*views, None]):
        assert view is not None and view.tolist() == [ids[-limit:]]
        if after is not None:
            ids.append(int(after[0, -1]))
    written = encoder().decode(ids[1:])
    assert written.startswith(prompt) and len(ids) == len(given) + 3
    assert (prompt + first).startswith(written)  # and one more token, which the model did not see


@pytest.mark.parametrize("temperature", [0.0, TEMPERATURE])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_told(bad: float, temperature: float) -> None:
    logits = torch.zeros(VOCABULARY)
    logits[7] = bad
    with pytest.raises(FloatingPointError, match="no finite probabilities"):
        generate(Fixed(logits), encoder(), PROMPT, new_tokens=3, seed=0, temperature=temperature)
    masked = torch.full((VOCABULARY,), -torch.inf)
    masked[encoder().eos_id] = 0
    assert generate(Fixed(masked), encoder(), PROMPT, new_tokens=3, seed=0, temperature=temperature) == ""


def test_ids_that_the_tokenizer_lacks_are_never_drawn() -> None:
    """Vocabularies are often padded to a round size."""
    logits = torch.zeros(VOCABULARY + 64)
    word = int(encoder().encode([" import"])[0][0])
    logits[word], logits[VOCABULARY + 3] = 5.0, 10.0
    assert generate(Fixed(logits), encoder(), "a", new_tokens=3, seed=0, temperature=0) == " import" * 3
