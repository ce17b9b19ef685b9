"""A model's loss and accuracy on documents: one plain loop, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from headrace.inputs import Progress
from headrace.scoring.scores import Scores, unigram_loss
from headrace.scoring.windows import IGNORED, Windows, cut
from headrace.stream.tokenizer import Encoder

_AT_ONCE = 1 << 24
"""Logits in float32 at once, at most; the model's own are often half as wide."""


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

    `batch_size` is in windows. Ranks of an initialised process group share the batches, and all get the whole
    answer, equal bit for bit for any number of them on the same hardware. The model keeps its train or eval mode.
    """
    windows = cut(encoder, texts, block)
    loss, correct, predictions = _run(model, windows, batch_size, torch.device(device), keep_predictions, progress)

    def of_documents(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(windows.document, weights=values, minlength=len(texts)).astype(np.float64)

    return Scores(
        loss=of_documents(loss),
        tokens=of_documents(windows.length).astype(np.int64),
        correct=of_documents(correct).astype(np.int64),
        bytes=np.array([len(text.encode()) for text in texts], np.int64),
        unigram_loss=unigram_loss(windows.targets),
        predictions=predictions,
        references=windows.targets.astype(np.int64) if keep_predictions else None,
    )


def _run(
    model: nn.Module,
    windows: Windows,
    batch_size: int,
    device: torch.device,
    keep_predictions: bool,
    progress: Progress | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64] | None]:
    """Loss and correct tokens a window, and the predictions in the order of the targets."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)
    batches = windows.batches(batch_size)
    sums = np.zeros((2, len(windows)))
    predictions = np.zeros(len(windows.targets), np.int64) if keep_predictions else None
    with evaluating(model):
        for first in range(0, len(batches), world):
            # A sharded model needs every rank in every forward pass: a rank without a batch repeats the last.
            mine = batches[min(first + rank, len(batches) - 1)]
            inputs, labels = (torch.from_numpy(a).to(device) for a in windows.rows(mine))
            nats, best = _forward(model, inputs, labels)
            if first + rank < len(batches):
                sums[0, mine] = nats.double().sum(dim=1).cpu().numpy()
                sums[1, mine] = ((best == labels).sum(dim=1)).cpu().numpy()
                if predictions is not None:
                    places, real = windows.places(mine)
                    predictions[places[real]] = best.cpu().numpy()[real]
            if progress is not None:
                progress("score", min(first + world, len(batches)), len(batches), "batches")
    if world > 1 and len(batches):
        _sum_over_ranks(sums, device)
        if predictions is not None:
            _sum_over_ranks(predictions, device)
    return sums[0], sums[1], predictions


def _forward(model: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Nats, float32 [b, m] and 0 at padding, and the id put first, int64 [b, m].

    No attention mask: padding is on the right, where causal attention never looks, and a mask would cost the fast
    kernels.
    """
    logits = model(input_ids=inputs, attention_mask=None, use_cache=False).logits.flatten(0, 1)
    targets = labels.flatten()
    nats, best = torch.empty_like(targets, dtype=torch.float32), torch.empty_like(targets)
    step = max(1, _AT_ONCE // logits.shape[-1])
    for i in range(0, len(targets), step):
        part = logits[i : i + step].float()
        nats[i : i + step] = cross_entropy(part, targets[i : i + step], ignore_index=IGNORED, reduction="none")
        best[i : i + step] = part.argmax(dim=-1)
    return nats.view(labels.shape), best.view(labels.shape)


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
