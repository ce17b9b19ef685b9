"""Continuations: the same each time, and of the model's making only."""

from __future__ import annotations

import pytest
import torch

from headrace.scoring.generation import generate
from tests.scoring.small import VOCABULARY, Fixed, certain, encoder, tiny_model

PROMPT = "Functions are"


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
def test_prompts_of_any_length(prompt: str) -> None:
    assert generate(tiny_model(), encoder(), prompt, new_tokens=4, seed=0, temperature=0)


def test_ids_that_the_tokenizer_lacks_are_never_drawn() -> None:
    """Vocabularies are often padded to a round size."""
    logits = torch.zeros(VOCABULARY + 64)
    word = int(encoder().encode([" import"])[0][0])
    logits[word], logits[VOCABULARY + 3] = 5.0, 10.0
    assert generate(Fixed(logits), encoder(), "a", new_tokens=3, seed=0, temperature=0) == " import" * 3
