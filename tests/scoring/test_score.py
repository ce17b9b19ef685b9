"""The fast loop against the plain one, and what it must never do."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from headrace.scoring.score import score_documents
from headrace.scoring.scores import Scores
from tests.scoring.small import VOCABULARY, Fixed, certain, encoder, tiny_model

# One token, none, longer than the block, exactly one block, not ASCII, and text that looks like the end of a text.
TEXTS = [
    "the",
    "",
    "Functions are defined with def. " * 40,
    "a " * 15,
    "naïve café → ☃ 日本",
    "x<|endoftext|>y",
    "import os\n" * 9,
]
BLOCK = 16


def score(model: nn.Module, texts: list[str] = TEXTS, **changes: Any) -> Scores:
    how = {"block": BLOCK, "batch_size": 4, "device": "cpu", **changes}
    return score_documents(model, encoder(), texts, **how)


def plain(model: nn.Module, text: str, block: int) -> tuple[float, int, int]:
    """Loss, tokens and correct tokens of one document, one window after another, from whole float64 logits."""
    tokens = [encoder().eos_id, *encoder().encode([text])[0].tolist(), encoder().eos_id]
    loss, correct = 0.0, 0
    for at in range(0, len(tokens) - 1, block):
        targets = tokens[at + 1 : at + block + 1]
        with torch.no_grad():
            logits = model(torch.tensor([tokens[at : at + len(targets)]])).logits[0].double()
        rows = torch.arange(len(targets)), torch.tensor(targets)
        loss -= float(logits.log_softmax(-1)[rows].sum())
        correct += int((logits.argmax(-1) == rows[1]).sum())
    return loss, len(tokens) - 1, correct


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_agrees_with_a_plain_loop(attention: str) -> None:
    model = tiny_model(attn_implementation=attention)
    scores = score(model)
    expected = [plain(model, text, BLOCK) for text in TEXTS]
    np.testing.assert_allclose(scores.loss, [e[0] for e in expected], rtol=1e-5)
    assert scores.tokens.tolist() == [e[1] for e in expected]
    assert scores.correct.tolist() == [e[2] for e in expected]
    assert scores.bytes.tolist() == [len(text.encode()) for text in TEXTS]
    summary = scores.summary()
    total = sum(e[1] for e in expected)
    assert summary["eval_loss"] == pytest.approx(sum(e[0] for e in expected) / total, rel=1e-6)
    assert summary["perplexity"] == pytest.approx(math.exp(summary["eval_loss"]))
    assert (summary["tokens"], summary["documents"]) == (total, len(TEXTS))


def test_agrees_with_a_plain_loop_all_in_double_precision() -> None:
    double = tiny_model().double()
    expected = [plain(double, text, BLOCK) for text in TEXTS]
    scores = score(tiny_model())
    np.testing.assert_allclose(scores.loss, [e[0] for e in expected], rtol=1e-6)
    np.testing.assert_allclose(score(double).loss, [e[0] for e in expected], rtol=1e-7)  # cross entropy is in float32
    assert scores.correct.tolist() == [e[2] for e in expected]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_batch_size_does_not_matter(batch_size: int) -> None:
    model = tiny_model()
    one, other = score(model, batch_size=2), score(model, batch_size=batch_size)
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-6)
    assert one.correct.tolist() == other.correct.tolist()


def test_nor_does_what_a_document_is_packed_with() -> None:
    model = tiny_model()
    together = score(model)
    alone = [score(model, [text]) for text in TEXTS]
    np.testing.assert_allclose(together.loss, [a.loss[0] for a in alone], rtol=1e-6)
    np.testing.assert_allclose(score(model, TEXTS[::-1]).loss[::-1], together.loss, rtol=1e-6)


def test_the_curve_is_the_loss_by_tokens_in_view() -> None:
    """Against the plain loop, a position at a time."""
    model, nats = tiny_model(), defaultdict[int, float](float)
    for text in TEXTS:
        tokens = [0, *encoder().encode([text])[0].tolist(), 0]
        for at in range(len(tokens) - 1):
            start = at - at % BLOCK
            with torch.no_grad():
                logits = model(torch.tensor([tokens[start : at + 1]])).logits[0, -1].double()
            nats[at - start + 1] -= float(logits.log_softmax(-1)[tokens[at + 1]])
    scores = score(model)
    assert [(s.low, s.high) for s in scores.curve] == [(1, 1), (2, 2), (3, 4), (5, 8), (9, 16)]
    for stretch in scores.curve:
        within = sum(v for context, v in nats.items() if stretch.low <= context <= stretch.high)
        assert stretch.loss == pytest.approx(within, rel=1e-5)
    assert sum(s.tokens for s in scores.curve) == scores.tokens.sum()
    assert sum(s.loss for s in scores.curve) == pytest.approx(scores.loss.sum())


def test_some_documents_are_scored_as_if_they_were_all() -> None:
    scores, where = score(tiny_model()), np.array([len(text) > 10 for text in TEXTS])
    alone = score(tiny_model(), [text for text in TEXTS if len(text) > 10]).summary()
    part = scores.of(where).summary()
    for name in ("eval_loss", "accuracy", "bits_per_byte", "tokens", "documents", "eval_loss_interval"):
        assert part[name] == pytest.approx(alone[name], rel=1e-6), name


def test_the_end_of_a_document_counts_though_padding_has_the_same_id() -> None:
    """D8: a model that only ever says EOS is right once a document, and padding adds nothing."""
    scores = score(certain(encoder().eos_id), ["a b c d", "a"], batch_size=2)
    assert scores.correct.tolist() == [1, 1]
    assert scores.tokens.sum() > 4


def test_bits_a_byte_by_hand() -> None:
    """Every token of 4096 equally likely: 12 bits each."""
    text = "é" * 10
    tokens = len(encoder().encode([text])[0]) + 1
    summary = score(Fixed(torch.zeros(VOCABULARY)), [text]).summary()
    assert summary["bytes"] == 20
    assert summary["bits_per_byte"] == pytest.approx(12 * tokens / 20, rel=1e-6)
    assert summary["eval_loss"] == pytest.approx(12 * math.log(2), rel=1e-6)


def test_unigram_loss_is_the_entropy_of_the_same_targets() -> None:
    ids = encoder().encode(TEXTS)[0].tolist() + [encoder().eos_id] * len(TEXTS)
    shares = [n / len(ids) for n in Counter(ids).values()]
    summary = score(tiny_model()).summary()
    assert summary["unigram_loss"] == pytest.approx(-sum(p * math.log(p) for p in shares))
    assert summary["loss_over_unigram"] == pytest.approx(summary["eval_loss"] / summary["unigram_loss"])


def test_a_perplexity_without_bounds_is_null_with_a_note() -> None:
    wrong = encoder().encode(["zebra"])[0][0]
    summary = score(certain(int(wrong), height=1e4), ["a", "b"]).summary()
    assert summary["eval_loss"] == pytest.approx(1e4)
    assert summary["perplexity"] is None and "inf" in summary["perplexity_note"]
    assert summary["perplexity_interval"] == [None, None] and summary["perplexity_interval_note"]
    json.dumps(summary, allow_nan=False)


def test_no_documents_are_no_error() -> None:
    summary = score(tiny_model(), []).summary()
    assert (summary["documents"], summary["tokens"], summary["eval_loss"]) == (0, 0, None)
    json.dumps(summary, allow_nan=False)


def test_one_document_has_no_interval() -> None:
    summary = score(tiny_model(), ["a b"]).summary()
    assert summary["eval_loss_interval"] is None and "2 documents" in summary["eval_loss_interval_note"]


def test_the_model_keeps_its_mode_and_dropout_stays_off() -> None:
    model = tiny_model(resid_pdrop=0.5, embd_pdrop=0.5).train()
    assert score(model).loss.tolist() == score(model).loss.tolist()
    assert model.training
    model(torch.zeros(1, 3, dtype=torch.long)).logits.sum().backward()


def test_the_eos_that_opens_a_document_is_not_taken_for_padding() -> None:
    """transformers would warn of it at each start, and a model may treat it as padding."""
    model = tiny_model(pad_token_id=0)
    seen: list[int | None] = []
    model.register_forward_pre_hook(lambda *_: seen.append(model.config.pad_token_id))
    assert score(model).loss.tolist() == score(tiny_model()).loss.tolist()
    assert set(seen) == {None} and model.config.pad_token_id == 0


def test_half_precision_is_summed_in_full() -> None:
    full, half = score(tiny_model()).summary(), score(tiny_model().bfloat16()).summary()
    assert half["eval_loss"] == pytest.approx(full["eval_loss"], rel=0.02)


def test_predictions_are_in_the_order_of_the_documents() -> None:
    model = tiny_model()
    scores = score(model, keep_predictions=True)
    assert scores.predictions is not None and scores.references is not None
    ends = np.cumsum(scores.tokens)
    for document, (start, end) in enumerate(zip(ends - scores.tokens, ends, strict=True)):
        right = scores.predictions[start:end] == scores.references[start:end]
        assert right.sum() == scores.correct[document]
        expected = [*encoder().encode([TEXTS[document]])[0].tolist(), encoder().eos_id]
        assert scores.references[start:end].tolist() == expected
    assert score(model).predictions is None


def test_progress_ends_at_its_total() -> None:
    seen: list[tuple[str, int, int | None, str]] = []
    score(tiny_model(), progress=lambda *said: seen.append(said))
    assert [s[1] for s in seen] == list(range(1, len(seen) + 1)) and seen[-1][1] == seen[-1][2]


RANK = """
import json, sys
import torch.distributed as dist
from tests.scoring.small import tiny_model
from tests.scoring.test_score import score
rank, world, meeting = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
said = []
scores = score(tiny_model(), keep_predictions=True, progress=lambda *a: said.append(a[1:3]))
dist.destroy_process_group()
curve = [s.to_json() for s in scores.curve]
print(json.dumps([scores.loss.tolist(), scores.correct.tolist(), scores.predictions.tolist(), curve, said]))
"""


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_work_and_all_get_the_same_answer(world: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RANK]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [*command, str(r), str(world), str(tmp_path / "meet")], env=env, stdout=subprocess.PIPE, text=True
        )
        for r in range(world)
    ]
    answers = [json.loads(p.communicate(timeout=120)[0]) for p in ranks]
    torch.set_num_threads(1)
    alone = score(tiny_model(), keep_predictions=True)
    assert alone.predictions is not None
    for loss, correct, predictions, curve, said in answers:
        assert curve == [s.to_json() for s in alone.curve]
        assert loss == alone.loss.tolist()
        assert correct == alone.correct.tolist()
        assert predictions == alone.predictions.tolist()
        assert len(said) < said[-1][0] == said[-1][1]
