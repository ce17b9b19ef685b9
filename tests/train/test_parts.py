"""The parts of training that can be looked at by themselves."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from headrace.artifacts.provenance import git_commit
from headrace.options import parse_mapping
from headrace.scoring.models import load_model
from headrace.train.arguments import set_threads
from headrace.train.batches import Batches
from headrace.train.check import check
from headrace.train.data import Data, open_stream, prepare
from headrace.train.record import history
from tests.train.conftest import Train, sha, strict


@pytest.fixture
def data(flags: dict[str, Any], tmp_path: Path) -> tuple[Data, Batches]:
    options = parse_mapping({**flags, "output_dir": str(tmp_path)})
    checked = check(options)
    found = prepare(options, tmp_path, checked, world_size=1, state=None, progress=lambda *_: None)
    stream = open_stream(options, found, checked.encoder, world_size=1, rank=0, state=None)
    return found, Batches(stream, torch.device("cpu"))


def test_d3_documents_in_a_block_do_not_see_each_other(data: tuple[Data, Batches], still: Path) -> None:
    """Each document's targets cost the same in a packed block as by themselves."""
    plan, batches = data[0].plan, data[1]
    model = load_model(still, parse_mapping({}).model, random_init=True, seed=1)
    packed = next(
        (row, batch) for batch in batches for row in range(len(batch["input_ids"]))
        if (batch["position_ids"][row] == 0).sum() > 1
    )  # fmt: skip
    batches.stream.close()
    row, batch = packed
    ids, positions, labels = (batch[name][row] for name in ("input_ids", "position_ids", "labels"))
    starts = [*torch.nonzero(positions == 0).flatten().tolist(), len(ids)]
    with torch.inference_mode():
        together = model(input_ids=ids[None], position_ids=positions[None], use_cache=False).logits[0]
        alone = [model(input_ids=ids[None, a:b], use_cache=False).logits[0] for a, b in pairwise(starts)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    for start in starts[1:-1]:
        assert ids[start - 1] == plan.eos_id  # D3: an EOS ends the document before
        assert labels[start - 1] == plan.eos_id and labels[start] == -100  # it is a target; the next one's first is not


def test_batches_count_what_is_trained(data: tuple[Data, Batches]) -> None:
    batches = data[1]
    batch = next(batches)
    batches.stream.close()
    assert set(batch) == {"input_ids", "labels", "position_ids"}  # no mask, which would join the documents
    assert batch["input_ids"].shape == (4, 64) and batches.tokens == 4 * 64 and batches.samples == 4


def test_one_row_trains_what_several_do(data: tuple[Data, Batches], still: Path) -> None:
    """Kernels that tell documents apart in a single row get the micro-batch as one: the same loss."""
    several = data[1]
    flat = Batches(several.stream, torch.device("cpu"), flat=True)
    model = load_model(still, parse_mapping({}).model, random_init=True, seed=1)
    model.loss_type = "ForCausalLM"
    batch = next(several)
    one = {name: flat._tensor(tensor.numpy()) for name, tensor in batch.items()}
    several.stream.close()
    assert one["input_ids"].shape == (1, 256)
    # In one row positions restart at every block start, where the target is masked.
    losses = [float(model(**b, use_cache=False).loss.detach()) for b in (batch, one)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_threads_are_set_explicitly(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert set_threads(parse_mapping({})) == 3 == torch.get_num_threads()
        assert set_threads(parse_mapping({"torch_threads": 2})) == 2 == torch.get_num_threads()
        monkeypatch.setenv("OMP_NUM_THREADS", "")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
        assert set_threads(parse_mapping({})) == 1
    finally:
        torch.set_num_threads(before)


def test_history_joins_what_was_logged_at_one_step() -> None:
    log = [
        {"step": 2, "loss": 1.0},
        {"step": 2, "eval_loss": float("inf")},
        {"step": 4, "loss": 0.5},
        {"step": 4, "train_runtime": 9.0},
    ]
    joined, last = history(log)
    assert joined["loss"] == 1.0 and joined["eval_loss"] is None and "inf" in joined["eval_loss_note"]
    assert last == {"step": 4, "loss": 0.5}


def test_the_commit_is_the_images_or_the_checkouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_REVISION", "abc")
    assert git_commit() == "abc"
    monkeypatch.delenv("HEADRACE_REVISION")
    found = git_commit()
    assert found is None or len(found) == 40


def test_the_same_seed_gives_the_same_random_weights(train: Train, tmp_path: Path) -> None:
    none = {"learning_rate": 0.0, "max_steps": 1}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(tmp_path / name, seed=seed, **none)
    a, b, c = (sha(tmp_path / name / "model.safetensors") for name in "abc")
    assert a == b != c


def test_the_dtype_and_the_kernel_are_the_users(train: Train, tmp_path: Path) -> None:
    train(tmp_path / "out", torch_dtype="bfloat16", attn_implementation="eager", max_steps=1)
    assert strict(tmp_path / "out" / "config.json")["dtype"] == "bfloat16"


def test_models_that_know_no_sum_are_given_one() -> None:
    """A class without loss arguments is given the same loss as one with them, filler included."""
    from headrace.train import trainer

    logits, labels = torch.randn(2, 5, 7), torch.randint(0, 7, (2, 5))
    labels[:, 0] = -100
    count = torch.tensor(8)
    want = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="mean")
    assert torch.allclose(trainer._loss({"logits": logits}, labels, count), want)
    assert trainer._loss({"logits": logits}, torch.full_like(labels, -100), count) == 0
