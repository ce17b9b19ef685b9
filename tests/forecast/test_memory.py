"""Memory by formula, beside the bytes that autograd really keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from headrace.forecast import architecture, memory, pace
from headrace.forecast.architecture import FAMILIES, Architecture
from headrace.forecast.memory import Manner, Range
from headrace.forecast.precision import Precision

BLOCK = 32
KINDS = {
    "full": Precision(weight_bytes=4, kind="full", rate="fp32"),
    "mixed": Precision(weight_bytes=4, kind="mixed", rate="bf16"),
    "pure": Precision(weight_bytes=2, kind="pure", rate="bf16"),
}


def fields(kind: str, *, layers: int, width: int = 96, mlp: int = 224, heads: int = 4, **more: Any) -> dict[str, Any]:
    if kind == "gpt2":
        drops = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
        return {"n_embd": width, "n_layer": layers, "n_head": heads, "n_inner": mlp, "vocab_size": 200,
                "n_positions": BLOCK, **drops, **more}  # fmt: skip
    grouped = {} if kind == "gpt_neox" else {"num_key_value_heads": 2}
    return {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": mlp,
        "vocab_size": 200, "max_position_embeddings": BLOCK, **grouped, **more,
    }  # fmt: skip


def saved(kind: str, precision: Precision, layers: int, batch: int, *, documents: int = 1, **more: Any) -> int:
    """Bytes that autograd keeps of a forward pass of transformers' own model, its weights left out."""
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = AutoConfig.for_model(kind, **ids, **fields(kind, layers=layers, **more))
    dtype = torch.bfloat16 if precision.kind == "pure" else torch.float32
    causal: Any = AutoModelForCausalLM
    model = causal.from_config(config, dtype=dtype, attn_implementation="sdpa").train()
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    tokens = torch.zeros(batch, BLOCK, dtype=torch.long)
    positions = torch.arange(BLOCK // documents).repeat(documents)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
        torch.autocast("cpu", torch.bfloat16, enabled=precision.kind == "mixed"),
    ):
        out = model(input_ids=tokens, labels=tokens, position_ids=positions.expand(batch, BLOCK), use_cache=False)
    assert out.loss is not None
    return sum(s.nbytes() for s in kept.values())


def layer_saved(kind: str, precision: Precision, **more: Any) -> float:
    """Of a token, by one layer: copies of weights are the same for any batch, and cancel."""
    few, many = (
        (saved(kind, precision, layers, 4, **more) - saved(kind, precision, layers, 2, **more)) / (2 * BLOCK)
        for layers in (1, 3)
    )
    return (many - few) / 2


@pytest.mark.parametrize("precision", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_layer_keeps_what_the_formula_says(kind: str, precision: Precision) -> None:
    more = {"head_dim": 40} if kind in ("qwen3", "gemma", "llama") else {}
    shape = architecture.shape({"model_type": kind, **fields(kind, layers=1, **more)}, name="m")
    low, high = memory.layer_bytes(shape, precision, Manner(on_cpu=True), block=BLOCK)
    found = layer_saved(kind, precision, **more)
    assert low == high == pytest.approx(found, rel=0.02)
    assert memory.layer_bytes(shape, precision, Manner(on_cpu=True, fused=True), block=BLOCK).low < found


@pytest.mark.parametrize("precision", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("kind", FAMILIES)
def test_documents_kept_apart_cost_a_mask_in_every_layer(kind: str, precision: Precision) -> None:
    shape = architecture.shape({"model_type": kind, **fields(kind, layers=1)}, name="m")
    masked, plain = (
        memory.layer_bytes(shape, precision, Manner(on_cpu=True, masked=masked), block=BLOCK).high
        for masked in (True, False)
    )
    assert masked - plain == layer_saved(kind, precision, documents=2) - layer_saved(kind, precision)


# Not what autograd counts, but of the same models: operations that a GPU has to be told of one by one.
_VIEWS = {"view", "_unsafe_view", "t", "transpose", "expand", "slice", "select", "unsqueeze", "squeeze", "permute",
          "detach", "split", "alias", "unbind", "as_strided", "_reshape_alias", "narrow"}  # fmt: skip


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.__name__.split(".")[0] not in _VIEWS
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", [KINDS["full"], KINDS["mixed"]], ids=["full", "mixed"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_operations_of_a_layer(kind: str, precision: Precision) -> None:
    counts = []
    for layers in (1, 3):
        ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
        config = AutoConfig.for_model(kind, **ids, **fields(kind, layers=layers))
        causal: Any = AutoModelForCausalLM
        model = causal.from_config(config, attn_implementation="sdpa").train()
        tokens = torch.zeros(2, BLOCK, dtype=torch.long)
        positions = torch.arange(BLOCK // 2).repeat(2).expand(2, BLOCK)
        with Operations() as seen:  # type: ignore[no-untyped-call]
            with torch.autocast("cpu", torch.bfloat16, enabled=precision.kind == "mixed"):
                loss = model(input_ids=tokens, labels=tokens, position_ids=positions, use_cache=False).loss
            loss.backward()
        counts.append(seen.count)
    assert (counts[1] - counts[0]) / 2 == pytest.approx(pace.OPERATIONS[kind][precision.kind == "mixed"], rel=0.05)


def test_dropout_keeps_masks_and_on_a_cpu_the_scores() -> None:
    drops: dict[str, Any] = {"embd_pdrop": 0.1, "attn_pdrop": 0.1, "resid_pdrop": 0.1}
    shape = architecture.shape({"model_type": "gpt2", **fields("gpt2", layers=1, **drops)}, name="m")
    here, there = (memory.layer_bytes(shape, KINDS["full"], Manner(on_cpu=cpu), block=BLOCK) for cpu in (True, False))
    assert here.high == pytest.approx(layer_saved("gpt2", KINDS["full"], **drops), rel=0.03)
    assert there.high < here.high


PLAIN = Manner()
SHAPES = st.builds(
    lambda layers, heads, size, mlp, vocabulary, kind: architecture.shape(
        {"model_type": kind, **fields(kind, layers=layers, width=heads * size, heads=2 * heads, mlp=mlp),
         "vocab_size": vocabulary, "head_dim": size}, name="m"
    ),
    st.integers(1, 40), st.integers(1, 16), st.sampled_from([16, 64, 128]), st.integers(1, 20_000),
    st.integers(2, 200_000), st.sampled_from(["llama", "qwen3", "gemma"]),
)  # fmt: skip


def estimated(shape: Architecture, kind: str, manner: Manner = PLAIN, **more: Any) -> memory.Memory:
    how: dict[str, Any] = {
        "micro_batch": 4, "block": 512, "accumulation": 1, "optimizer": "adamw_torch_fused", "ranks": 1, **more,
    }  # fmt: skip
    return memory.estimate(shape, KINDS[kind], manner, **how)


@settings(deadline=None)
@given(shape=SHAPES, kind=st.sampled_from(sorted(KINDS)), batch=st.integers(1, 64))
def test_peaks_are_ranges_that_grow_with_what_is_asked(shape: Architecture, kind: str, batch: int) -> None:
    one = estimated(shape, kind, micro_batch=batch)
    assert 0 < one.peak.low <= one.peak.high
    assert one.weights + one.optimizer + one.process.low <= one.peak.low
    larger: list[dict[str, Any]] = [
        {"micro_batch": batch + 1}, {"accumulation": 2}, {"ranks": 2}, {"manner": Manner(eager=True)},
        {"manner": Manner(masked=True)},
    ]  # fmt: skip
    for more in larger:
        other = estimated(shape, kind, **{"micro_batch": batch, **more})
        assert other.peak.low >= one.peak.low and other.peak.high >= one.peak.high
    # One layer's activations are there at once, whichever way.
    again = estimated(shape, kind, Manner(recompute=True), micro_batch=batch)
    if shape.layers > 2:
        assert again.activations.high < one.activations.high


@settings(deadline=None)
@given(shape=SHAPES, available=st.integers(1, 10**12))
def test_whether_it_fits(shape: Architecture, available: int) -> None:
    peak = estimated(shape, "mixed").peak
    said = estimated(shape, "mixed").fits(available)
    assert (said == "yes") == (peak.high <= available) and (said == "no") == (peak.low > available)


def test_gpt2_in_numbers_worked_out_by_hand() -> None:
    shape = architecture.shape(
        {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257},
        name="m",
    )
    assert shape.parameters == 124_439_808
    found = estimated(shape, "mixed", Manner(fused=True), micro_batch=8, block=1024)
    assert (found.weights, found.gradients, found.optimizer) == (497_759_232, 497_759_232, 995_518_464)
    assert found.cast_weights == 248_879_616 and found.buckets == 0
    assert found.logits == Range(8.0 * 8192 * 50257, 14.0 * 8192 * 50257)
    # 34 bytes x width a token and layer in the paper, of which 2 are dropout masks; beside that the two ends.
    assert found.activations.low == 8192 * (12 * 34 * 768 + 4 * 768)


@pytest.mark.parametrize(
    ("optimizer", "bytes_"),
    [("adamw_torch", 8000), ("adamw_bnb_8bit", 2100), ("sgd", 0), ("lion_32bit", 4000), ("apollo_adamw", 8000)],
)
def test_what_optimizers_keep(optimizer: str, bytes_: int) -> None:
    assert memory.optimizer_bytes(1000, optimizer, 4) == bytes_
    assert memory.knows_optimizer(optimizer) == (optimizer != "apollo_adamw")
