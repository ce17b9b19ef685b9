"""Steps over ranks, time, commits, hardware, precision: the arithmetic by itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import InputError
from headrace.forecast import architecture, commits, division, hardware, pace, precision
from headrace.forecast.architecture import Architecture
from headrace.forecast.division import Division
from headrace.forecast.hardware import Hardware
from headrace.forecast.memory import Manner, Range
from headrace.options import parse_mapping
from headrace.stream.batches import accumulation, efficiency
from headrace.stream.order import exact_world_sizes
from headrace.stream.plan import Plan
from headrace.train.health import PEAK

H100 = hardware.find("h100")
SHAPE = architecture.shape(
    {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": 99}, name="m"
)
BATCHES = st.tuples(st.integers(1, 300), st.integers(1, 64), st.integers(1, 24)).filter(lambda b: b[2] <= b[1])


def frozen(global_batch: int, lanes: int) -> Plan:
    return Plan(
        manifest_hash="", text_column="text", tokenizer_hash="", eos_id=0, heldout="", seed=0, block=8, grouped=True,
        lanes=lanes, global_batch=global_batch,
    )  # fmt: skip


@settings(deadline=None)
@given(batch=BATCHES, micro=st.integers(1, 64))
def test_a_step_is_divided_as_training_does(batch: tuple[int, int, int], micro: int) -> None:
    global_batch, lanes, ranks = batch
    most = division.share(global_batch=global_batch, lanes=lanes, ranks=ranks)
    how = {"global_batch": global_batch, "lanes": lanes, "ranks": ranks}
    if micro > most:
        with pytest.raises(InputError, match="--per_device_train_batch_size is"):
            division.divide(**how, micro_batch=micro)
        return
    found = division.divide(**how, micro_batch=micro)
    plan = frozen(global_batch, lanes)
    assert found.accumulation == accumulation(plan, world_size=ranks, batch=micro)
    assert found.efficiency == efficiency(plan, world_size=ranks, batch=micro)


@settings(deadline=None)
@given(batch=BATCHES, limit=st.integers(0, 64))
def test_the_recommended_micro_batch_wastes_least_and_fits(batch: tuple[int, int, int], limit: int) -> None:
    global_batch, lanes, ranks = batch
    how = {"global_batch": global_batch, "lanes": lanes, "ranks": ranks}
    best = division.recommend(**how, fits=lambda d: d.micro_batch <= limit)
    assert (best is None) == (limit == 0)
    if best is None:
        return
    assert best.micro_batch <= limit
    most = division.share(**how)
    assert most % best.micro_batch == 0 and best.micro_batch * best.accumulation == most
    every = [division.divide(**how, micro_batch=b) for b in range(1, min(limit, most) + 1)]
    assert best.efficiency == max(d.efficiency for d in every)
    if ranks in exact_world_sizes(global_batch, lanes):
        assert best.efficiency == 1
        assert best.micro_batch * best.accumulation * ranks == global_batch


def test_more_ranks_than_lanes_are_refused() -> None:
    with pytest.raises(InputError, match="has 4 lanes") as found:
        division.share(global_batch=8, lanes=4, ranks=5)
    assert "no filler with 1, 2, 4" in found.value.remedy


def walked(steps: int, every: int, step_s: float, commit_every_s: float) -> int:
    """Commits by time, step by step, as the trainer decides them."""
    now = committed = 0.0
    found = 0
    for step in range(1, steps + 1):
        now = step * step_s
        scheduled = step % every == 0 or step == steps
        if now - committed > commit_every_s and not scheduled:
            found, committed = found + 1, now
        if scheduled:
            committed = now
    return found


@settings(deadline=None)
@given(steps=st.integers(1, 400), every=st.integers(1, 150), step_s=st.integers(1, 40), wait=st.integers(1, 900))
def test_commits_by_time_are_those_of_the_trainer(steps: int, every: int, step_s: int, wait: int) -> None:
    found = commits.estimate(
        model_bytes=0, optimizer_bytes=0, tokenizer_bytes=0, ranks=1, steps=steps, every=every, keep=None,
        commit_every_s=wait, step_s=Range(step_s, step_s),
    )  # fmt: skip
    assert found.by_time.low == walked(steps, every, step_s, wait)
    assert found.scheduled == math.ceil(steps / every) == found.kept


@settings(deadline=None)
@given(keep=st.integers(-1, 5), steps=st.integers(1, 99), model=st.integers(0, 10**12), ranks=st.integers(1, 64))
def test_bytes_of_commits(keep: int, steps: int, model: int, ranks: int) -> None:
    found = commits.estimate(
        model_bytes=model, optimizer_bytes=2 * model, tokenizer_bytes=7, ranks=ranks, steps=steps, every=10, keep=keep,
        commit_every_s=0, step_s=Range(1, 2),
    )  # fmt: skip
    assert found.kept == (min(keep, found.scheduled) if keep > 0 else found.scheduled)
    assert found.checkpoint_bytes >= 3 * model
    assert found.disk_bytes <= found.written_bytes.low <= found.written_bytes.high
    assert found.by_time == Range(0, 0) and found.store_requests.low <= found.store_requests.high


def test_no_checkpoint_at_all_leaves_the_final_model() -> None:
    found = commits.estimate(
        model_bytes=100, optimizer_bytes=200, tokenizer_bytes=0, ranks=1, steps=9, every=None, keep=None,
        commit_every_s=1, step_s=Range(1, 2),
    )  # fmt: skip
    assert (found.scheduled, found.kept, found.by_time) == (0, 0, Range(0, 0))
    assert found.disk_bytes == 100 + commits.SMALL_BYTES


def paced(shape: Architecture, **more: Any) -> pace.Pace:
    how: dict[str, Any] = {
        "block": 2048, "steps": 100, "tokens_per_step": 1024.0, "manner": Manner(fused=True), "data_tokens_per_s": None,
        "price": None, **more,
    }  # fmt: skip
    parts = Division(ranks=2, global_batch=16, lanes=4, micro_batch=4, accumulation=2, efficiency=1.0)
    kind = precision.Precision(weight_bytes=4, kind="mixed", rate="bf16")
    return pace.estimate(shape, parts, H100, kind, **how)


LARGE = architecture.shape(
    {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
     "intermediate_size": 11008, "vocab_size": 32000}, name="m",
)  # fmt: skip


def test_time_is_work_by_rate() -> None:
    found = paced(LARGE, price=2.0)
    work = LARGE.flops_per_token(2048) * 4 * 2 * 2048
    assert found.step_s == Range(work / (H100.peak("bf16") * 0.46), work / (H100.peak("bf16") * 0.2))
    assert found.wall_s.low == pytest.approx(100 * found.step_s.low)
    assert found.gpu_hours.high == pytest.approx(2 * found.wall_s.high / 3600)
    assert found.cost == found.gpu_hours.times(2.0)
    assert found.tokens_per_s.low == pytest.approx(1024 / found.step_s.high)
    assert paced(LARGE, manner=Manner(recompute=True)).step_s.low == pytest.approx(found.step_s.low * 8 / 6)


def test_a_small_model_waits_for_its_operations_to_be_started() -> None:
    found = paced(SHAPE, manner=Manner())
    assert found.step_s == found.launch_s == pace.LAUNCH_S.times(2 * (2 * 71 + 60))
    assert found.bottleneck.startswith("starting operations")
    assert paced(SHAPE, manner=Manner(on_cpu=True)).launch_s == Range(0, 0)
    assert paced(LARGE).bottleneck.startswith("compute")


@settings(deadline=None)
@given(rate=st.floats(1.0, 1e12))
def test_the_bottleneck_is_what_takes_longer(rate: float) -> None:
    found = paced(LARGE, data_tokens_per_s=rate)
    assert found.data_s is not None and found.data_s == pytest.approx(512 / rate)
    assert found.step_s.low == max(found.compute_s.low, found.data_s) and found.step_s.high >= found.step_s.low
    slow, fast = found.data_s >= found.compute_s.high, found.data_s <= found.compute_s.low
    assert found.bottleneck == ("the stream" if slow else "compute" if fast else "compute or the stream, about equally")


def test_every_entry_of_the_table_is_whole() -> None:
    for name in hardware.names():
        if name == hardware.CPU:
            continue
        entry = hardware.find(name)
        assert entry.source.startswith("NVIDIA") and 0 < entry.mfu[0] < entry.mfu[1] < 1
        assert entry.peak_flops["fp32"] < entry.peak_flops["fp16"] and entry.memory_bytes >= 15e9
        # The trainer's own table, from which `mfu` in its log is reckoned.
        known = next(v for k, v in sorted(PEAK.items(), reverse=True) if k.replace(" ", "-").lower() in name)
        assert entry.peak_flops["fp16"] == pytest.approx(known, rel=0.01)


def test_this_cpu_is_measured() -> None:
    found = hardware.this_cpu(0.05)
    assert 1e8 < found.peak("fp32") < 1e14 and found.memory_bytes > 1 << 28 and not found.accelerator


def test_hardware_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mi300x.yaml"
    path.write_text(yaml.safe_dump({"memory_gb": 192, "bf16_tflops": 1307, "fp32_tflops": 163, "mfu": [0.1, 0.3]}))
    found = hardware.find(str(path))
    assert found == Hardware(
        name="mi300x", says="mi300x", memory_bytes=192_000_000_000,
        peak_flops={"bf16": 1307e12, "fp32": 163e12}, mfu=(0.1, 0.3), source="given by the user",
    )  # fmt: skip


@pytest.mark.parametrize(
    "entry",
    [{"memory_gb": 10}, {"bf16_tflops": 5}, {"memory_gb": -1, "bf16_tflops": 5}, {"memory_gb": 1, "bf16_tflops": "x"},
     {"memory_gb": 1, "bf16_tflops": 5, "mfu": 0.4}, {"memory_gb": 1, "bf16_tflops": 5, "mfu": [0.5, 0.4]},
     {"memory_gb": 1, "bf16_tflops": 5, "speed": 3}],
)  # fmt: skip
def test_a_file_that_is_no_hardware_is_refused(entry: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(entry))
    with pytest.raises(InputError, match="--hardware mine: "):
        hardware.find(str(path))


@pytest.mark.parametrize(
    ("flags", "device", "said"),
    [
        ({}, "h100", "bf16, weights in float32"),
        ({"bf16": False}, "h100", "fp32"),
        ({"bf16": False, "tf32": True}, "h100", "tf32"),
        ({"fp16": True}, "t4", "fp16, weights in float32"),
        ({}, "t4", "fp32"),
        ({"torch_dtype": "bfloat16"}, "h100", "bf16, weights included"),
        ({"torch_dtype": "auto"}, "h100", "fp16, weights included"),
        ({"torch_dtype": "none"}, "h100", "fp32"),
    ],
)
def test_precision_is_chosen_as_training_does(flags: dict[str, Any], device: str, said: str) -> None:
    found = precision.choose(parse_mapping(flags), hardware.find(device), {"torch_dtype": "float16"})
    assert str(found) == said


def test_a_precision_that_the_hardware_lacks_is_refused() -> None:
    with pytest.raises(InputError, match="NVIDIA T4, 16 GB, without bf16: it has no bf16"):
        precision.choose(parse_mapping({"bf16": True}), hardware.find("t4"), {})
    with pytest.raises(InputError, match="--torch_dtype is 'int8'"):
        precision.choose(parse_mapping({"torch_dtype": "int8"}), H100, {})
