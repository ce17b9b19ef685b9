"""Runs models over the chosen documents: the one that is evaluated, and the one that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headrace import inputs
from headrace.evaluate.prepared import Prepared
from headrace.evaluate.scored import Scored, Terms
from headrace.options import Options
from headrace.scoring.models import fetch_model
from headrace.scoring.scores import Scores
from headrace.stream.tokenizer import Encoder


@dataclass(frozen=True)
class Outcome:
    """Scores of the chosen documents. block: tokens in view; dtype: of the weights; accelerator: empty for a CPU."""

    scores: Scores
    encoder: Encoder
    block: int
    dtype: str
    accelerator: str

    def scored(self, prepared: Prepared) -> Scored:
        """The scores with what they depend on."""
        slice_ = prepared.chosen.slice
        terms = Terms(slice=slice_.digest, tokenizer=self.encoder.hash, block=self.block, dtype=self.dtype)
        return Scored.of(self.scores, slice_.table.column("hash").to_pylist(), terms)


def score(prepared: Prepared, progress: inputs.Progress | None) -> Outcome:
    """Load the model and score, on every rank that a launcher started."""
    from accelerate import PartialState

    # Unless told so, accelerate would let each process on a CPU score everything by itself.
    state = PartialState(cpu=_on_cpu(prepared.options))
    try:
        folder, encoder, block = prepared.subject.folder, prepared.encoder, prepared.block
        return _score_model(prepared, folder, encoder, block, state.device, progress)
    finally:
        if state.num_processes > 1:
            state.destroy_process_group()


def _on_cpu(options: Options) -> bool:
    import torch

    return bool(options.training.get("use_cpu")) or not torch.accelerator.is_available()


def _score_model(
    prepared: Prepared, folder: Path, encoder: Encoder, block: int, device: Any, progress: inputs.Progress | None
) -> Outcome:
    """A model's scores on the chosen documents."""
    import torch

    from headrace.scoring.models import accelerator_name, load_model
    from headrace.scoring.score import score_documents

    options = prepared.options
    if options.train.torch_threads:
        torch.set_num_threads(options.train.torch_threads)
    model = load_model(folder, options.model).to(device)
    scores = score_documents(
        model,
        encoder,
        prepared.chosen.slice.texts,
        block=block,
        batch_size=options.evaluate.eval_batch_size,
        device=device,
        keep_predictions=bool(prepared.metrics) and folder == prepared.subject.folder,
        progress=progress,
    )
    dtype = str(model.dtype).removeprefix("torch.")
    return Outcome(scores, encoder, block, dtype, accelerator_name(device))


def rescored(prepared: Prepared, location: str, scratch: Path, progress: inputs.Progress | None) -> Scored:
    """The scores of another model on the same documents, with its own tokenizer; on this rank alone.

    At most as many tokens are in view as its positions allow.
    """
    import torch

    folder = fetch_model(location, scratch, trust_remote_code=prepared.options.model.trust_remote_code).folder
    model = replace(prepared.options.model, model_name_or_path=str(folder), tokenizer=None)
    options = replace(prepared.options, model=model)
    limits, encoder = inputs.open_limits(options), inputs.open_encoder(options)
    block = min(prepared.block, limits.max_positions or prepared.block)
    device = torch.accelerator.current_accelerator() if not _on_cpu(options) else torch.device("cpu")
    return _score_model(prepared, folder, encoder, block, device, progress).scored(prepared)
