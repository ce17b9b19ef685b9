"""Logits in parts: the same as whole ones, in bounded memory, for whatever a model does to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, LlamaConfig

from headrace.scoring.head import Logits
from tests.scoring.small import VOCABULARY, tiny_model
from tests.scoring.test_score import score

SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.3,
}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**SMALL),
    "softcapping": Gemma2Config(**SMALL, head_dim=16, final_logit_softcapping=5.0),
    "scaling": CohereConfig(**SMALL, logit_scale=0.25),
}


def made(name: str) -> Any:
    torch.manual_seed(0)
    causal: Any = AutoModelForCausalLM
    return causal.from_config(CONFIGS[name]).eval() if name in CONFIGS else tiny_model()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.scoring.score._AT_ONCE", 5 * VOCABULARY)


@pytest.mark.parametrize("name", ["gpt2", *CONFIGS])
def test_parts_are_what_the_whole_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = score(made(name))
    monkeypatch.setattr("headrace.scoring.score._AT_ONCE", 5 * VOCABULARY)
    seen: list[int] = []
    model = made(name)
    model.get_output_embeddings().register_forward_hook(lambda _m, _i, out: seen.append(out.numel()))
    parts = score(model)
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-6)
    assert parts.correct.tolist() == whole.correct.tolist()
    # The first is the trial of the parts, on 8 positions.
    assert max(seen[1:]) <= 8 * VOCABULARY and seen.count(5 * VOCABULARY) > len(seen) / 2
    assert "forward" not in vars(model.base_model)


def test_autocast_holds_for_the_parts_too(small_parts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Trainer sets it up: around the model's forward."""

    def half() -> Any:
        model = tiny_model()
        forward = model.forward
        monkeypatch.setattr(model, "forward", lambda **named: torch.autocast("cpu", torch.bfloat16)(forward)(**named))
        return model

    parts = score(half())
    monkeypatch.setattr("headrace.scoring.score._AT_ONCE", 1 << 30)
    np.testing.assert_allclose(parts.loss, score(half()).loss, rtol=1e-6)


class Wrapped(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.module, self.config = model, model.config

    def forward(self, **named: Any) -> Any:
        return self.module(**named)


def test_a_model_that_is_wrapped_or_of_another_build_is_asked_whole(
    small_parts: None, caplog: pytest.LogCaptureFixture
) -> None:
    whole = score(tiny_model())
    with caplog.at_level("WARNING", "headrace"):
        assert score(Wrapped(tiny_model())).loss.tolist() == pytest.approx(whole.loss.tolist(), rel=1e-6)
    assert "Wrapped gives its logits only whole" in caplog.text


def test_a_head_that_looks_at_more_than_hidden_states_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    ids = torch.arange(64).reshape(4, 16) + 100
    inner = model.forward

    def forward(**named: Any) -> Any:
        answer = inner(**named)
        answer.logits = answer.logits + named["input_ids"][..., None] / 10 * torch.arange(VOCABULARY)
        return answer

    monkeypatch.setattr(model, "forward", forward)
    with torch.inference_mode():
        found = torch.cat(list(Logits(model, 5 * VOCABULARY).parts(ids)))
        assert torch.equal(found, model(input_ids=ids, attention_mask=None, use_cache=False).logits.flatten(0, 1))


MEMORY = """
import json, resource, torch
from transformers import LlamaConfig, LlamaForCausalLM
from headrace.scoring.score import score_documents
from tests.scoring.small import encoder
torch.set_num_threads(1)
config = LlamaConfig(vocab_size=150_000, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                     num_attention_heads=1, num_key_value_heads=1, tie_word_embeddings=True)
model = LlamaForCausalLM(config).eval()
score_documents(model, encoder(), ["warm"], block=512, batch_size=4, device="cpu")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scores = score_documents(model, encoder(), ["a b c " * 700] * 2, block=512, batch_size=4, device="cpu")
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, int(scores.tokens.sum())]))
"""


def test_memory_is_bounded_at_150_thousand_tokens_of_vocabulary() -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", MEMORY], env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    grown_kb, tokens = json.loads(done.stdout)
    whole_kb = 4 * 512 * 150_000 * 4 / 1024
    assert tokens > 2 * 512 and grown_kb < min(600_000, whole_kb / 2)
