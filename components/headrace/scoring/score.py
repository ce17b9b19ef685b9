"""A model's loss and accuracy on documents: one plain loop, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from headrace.inputs import Progress
from headrace.scoring.head import Logits
from headrace.scoring.scores import Scores, curve, unigram_loss
from headrace.scoring.windows import IGNORED, Windows, cut
from headrace.stream.tokenizer import Encoder

_AT_ONCE = 1 << 25
"""Logits in float32 at once, at most; the model's own are often half as wide."""
_CACHED = 1 << 21


def score_documents(
    model: nn.Module,
    encoder: Encoder,
    texts: Sequence[str],
    *,
    block: int,
    batch_size: int,
    device: torch.device | str,
    keep_predictions: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """Score every token of every document, its EOS included, with at most `block` tokens of its own before it.

    A micro-batch holds `batch_size` windows of `block` tokens, or more of shorter ones. Ranks of an initialised
    process group share the micro-batches, and all get the whole answer, equal bit for bit for any number of them on
    the same hardware. The model keeps its train or eval mode.
    """
    windows = cut(encoder, texts, block)
    targets = _run(model, windows, batch_size * block, torch.device(device), keep_predictions, progress)
    ends = np.flatnonzero(np.diff(windows.document, append=-1))  # the last window of each document
    last = windows.start[ends] + windows.length[ends]
    first = np.concatenate([[0], last[:-1]]).astype(np.int64)[: len(texts)]
    nats = targets.nats.astype(np.float64)
    return Scores(
        loss=np.add.reduceat(nats, first) if len(texts) else np.zeros(0),
        tokens=last - first,
        correct=np.add.reduceat(targets.correct.astype(np.int64), first) if len(texts) else np.zeros(0, np.int64),
        bytes=np.array([len(text.encode()) for text in texts], np.int64),
        unigram_loss=unigram_loss(windows.targets),
        curve=curve(nats, windows.context),
        predictions=targets.predictions,
        references=windows.targets.astype(np.int64) if keep_predictions else None,
    )


@dataclass(frozen=True)
class _Targets:
    """What came of each target, [t] in document order."""

    nats: NDArray[np.float32]
    correct: NDArray[np.uint8]
    predictions: NDArray[np.int64] | None


def _run(
    model: nn.Module,
    windows: Windows,
    positions: int,
    device: torch.device,
    keep_predictions: bool,
    progress: Progress | None,
) -> _Targets:
    rank, world = (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)
    batches = windows.batches(positions)
    count = len(windows.targets)
    found = _Targets(
        nats=np.zeros(count, np.float32),
        correct=np.zeros(count, np.uint8),
        predictions=np.zeros(count, np.int64) if keep_predictions else None,
    )
    logits = Logits(model, _AT_ONCE)
    with evaluating(model):
        for first in range(0, len(batches), world):
            # A sharded model needs every rank in every forward pass: a rank without a batch repeats the last.
            mine = batches[min(first + rank, len(batches) - 1)]
            inputs, labels = (torch.from_numpy(a).to(device) for a in windows.rows(mine))
            nats, best = _forward(logits, inputs, labels)
            if first + rank < len(batches):
                places, real = windows.places(mine)
                found.nats[places[real]] = nats.cpu().numpy()[real]
                found.correct[places[real]] = (best == labels).cpu().numpy()[real]
                if found.predictions is not None:
                    found.predictions[places[real]] = best.cpu().numpy()[real]
            if progress is not None:
                progress("score", min(first + world, len(batches)), len(batches), "batches")
    if world > 1 and count:
        for values in (found.nats, found.correct, found.predictions):
            if values is not None:
                _sum_over_ranks(values, device)
    return found


def _forward(logits: Logits, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Nats, float32 [b, m] and 0 at padding, and the id put first, int64 [b, m]."""
    targets = labels.flatten()
    nats, best = torch.empty_like(targets, dtype=torch.float32), torch.empty_like(targets)
    at = 0
    for part in _in_cache(logits.parts(inputs)):
        here = slice(at, at + len(part))
        single = part.float()
        nats[here] = cross_entropy(single, targets[here], ignore_index=IGNORED, reduction="none")
        best[here] = single.argmax(dim=-1)
        at += len(part)
    return nats.view(labels.shape), best.view(labels.shape)


def _in_cache(parts: Iterator[Tensor]) -> Iterator[Tensor]:
    """The same rows, on a CPU few enough at a time to stay in its cache while they are gone over again and again."""
    for part in parts:
        rows = max(1, _CACHED // part.shape[-1]) if part.device.type == "cpu" else len(part)
        yield from torch.split(part, rows)


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _sum_over_ranks(values: NDArray[Any], device: torch.device) -> None:
    """Replace an array by its sum over ranks; exact, because each element is non-zero on one rank only."""
    tensor = torch.from_numpy(values).to(device)
    dist.all_reduce(tensor)
    values[:] = tensor.cpu().numpy()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and without gradients; afterwards as it was.

    Its configuration names no pad token meanwhile: where that is EOS, as so often, transformers takes the EOS that
    opens every document for padding, and warns of a missing attention mask.
    """
    training, config = model.training, getattr(getattr(model, "module", model), "config", None)
    pad = getattr(config, "pad_token_id", None)
    model.eval()
    try:
        if config is not None and pad is not None:
            config.pad_token_id = None
        with torch.inference_mode():
            yield
    finally:
        model.train(training)
        if config is not None and pad is not None:
            config.pad_token_id = pad
