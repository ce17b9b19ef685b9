"""The stream as `Trainer` takes it: dictionaries of tensors on the device, and what they were counted up to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from headrace.stream.batches import RankStream
from headrace.stream.packing import IGNORED


class Batches:
    """A rank's micro-batches, one iterator for the whole training: asking again goes on where it was.

    No attention mask is given: models then tell documents apart by positions that restart. `positions` False leaves
    those out too, for models that take none. `flat` makes one row of each micro-batch, for kernels that tell documents
    apart in a single row only.
    """

    def __init__(self, stream: RankStream, device: torch.device, *, positions: bool = True, flat: bool = False) -> None:
        self.stream = stream
        self._device, self._flat = device, flat
        self._pin = device.type == "cuda"
        self._names = ("input_ids", "labels", *(("position_ids",) if positions else ()))
        self.tokens = self.samples = 0
        """What this process was given, filler left out."""
        self.waited_s = 0.0
        """Seconds spent in waiting for the stream."""
        self.ended = False
        """Whether this rank's lanes have nothing left after the step that was given last."""

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return self

    def __next__(self) -> dict[str, torch.Tensor]:
        began = time.monotonic()
        micro = next(self.stream)
        self.waited_s += time.monotonic() - began
        self.tokens += micro.tokens
        self.samples += int((micro.labels != IGNORED).any(axis=1).sum())
        self.ended = micro.ended
        return {name: self._tensor(getattr(micro, name)) for name in self._names}

    def _tensor(self, array: Any) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if self._flat:
            tensor = tensor.reshape(1, -1)
        return (tensor.pin_memory() if self._pin else tensor).to(self._device, non_blocking=self._pin)
