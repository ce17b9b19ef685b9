"""In which number formats a training keeps weights and computes, as `headrace train` chooses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from headrace.errors import InputError
from headrace.forecast.hardware import Hardware
from headrace.options import Options, training_value

_HALVES = {"bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True, kw_only=True)
class Precision:
    """weight_bytes: of a kept weight; kind: full (float32), mixed (computes in half precision) or pure (all in half).

    rate: which of the hardware's rates applies.
    """

    weight_bytes: int
    kind: Literal["full", "mixed", "pure"]
    rate: str

    def __str__(self) -> str:
        if self.kind == "mixed":
            return f"{self.rate}, weights in float32"
        return f"{self.rate}, weights included" if self.kind == "pure" else self.rate


def choose(options: Options, hardware: Hardware, config: Mapping[str, Any]) -> Precision:
    """The precision of a training with these flags; InputError when the hardware has none such.

    Where nothing is said it is bf16 on hardware that has it, as in `headrace train`.
    """
    weights = _weights(options, config)
    half = next((h for h in ("bf16", "fp16") if training_value(options, h)), None)
    said = {"bf16", "fp16", "torch_dtype", "use_cpu", "deepspeed"} & options.given
    if half is None and not said and "bf16" in hardware.peak_flops:
        half = "bf16"
    if weights != "float32":
        chosen = Precision(weight_bytes=2, kind="pure", rate=_HALVES[weights])
    elif half is not None:
        chosen = Precision(weight_bytes=4, kind="mixed", rate=half)
    else:
        tf32 = bool(training_value(options, "tf32")) and "tf32" in hardware.peak_flops
        chosen = Precision(weight_bytes=4, kind="full", rate="tf32" if tf32 else "fp32")
    hardware.peak(chosen.rate)
    return chosen


def _weights(options: Options, config: Mapping[str, Any]) -> str:
    named = options.model.torch_dtype
    if named in (None, "none"):
        return "float32"
    if named == "auto":
        named = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    plain = str(named).removeprefix("torch.")
    if plain != "float32" and plain not in _HALVES:
        raise InputError(f"--torch_dtype is {plain!r}", f"expected float32, {' or '.join(_HALVES)}")
    return plain
