"""Runs models over the chosen documents: the one that is evaluated, and the one that it is compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace import inputs
from headrace.evaluate.prepared import Prepared
from headrace.evaluate.scored import Scored, Terms
from headrace.options import Options
from headrace.scoring.models import fetch_model
from headrace.scoring.scores import Scores
from headrace.stream.tokenizer import Encoder


def score(prepared: Prepared, progress: inputs.Progress | None) -> tuple[Scores, str]:
    """Load the model and score, on every rank that a launcher started; and the name of the accelerator, if any."""
    from accelerate import PartialState

    from headrace.scoring.models import accelerator_name

    options = prepared.options
    # Unless told so, accelerate would let each process on a CPU score everything by itself.
    state = PartialState(cpu=_on_cpu(options))
    try:
        folder, encoder, block = prepared.subject.folder, prepared.encoder, prepared.block
        return _score_model(prepared, folder, encoder, block, state.device, progress), accelerator_name(state.device)
    finally:
        if state.num_processes > 1:
            state.destroy_process_group()


def _on_cpu(options: Options) -> bool:
    import torch

    return bool(options.training.get("use_cpu")) or not torch.accelerator.is_available()


def _score_model(
    prepared: Prepared, folder: Path, encoder: Encoder, block: int, device: Any, progress: inputs.Progress | None
) -> Scores:
    """A model's scores on the chosen documents."""
    import torch

    from headrace.scoring.models import load_model
    from headrace.scoring.score import score_documents

    options = prepared.options
    if options.train.torch_threads:
        torch.set_num_threads(options.train.torch_threads)
    model = load_model(folder, options.model).to(device)
    return score_documents(
        model,
        encoder,
        prepared.chosen.slice.texts,
        block=block,
        batch_size=options.evaluate.eval_batch_size,
        device=device,
        keep_predictions=bool(prepared.metrics) and folder == prepared.subject.folder,
        progress=progress,
    )


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
    device = "cpu" if _on_cpu(options) else torch.accelerator.current_accelerator()
    scores = _score_model(prepared, folder, encoder, block, device, progress)
    return scored(prepared, scores, encoder, block)


def scored(prepared: Prepared, scores: Scores, encoder: Encoder, block: int) -> Scored:
    """Scores of the chosen documents with what they depend on."""
    slice_ = prepared.chosen.slice
    terms = Terms(slice=slice_.digest, tokenizer=encoder.hash, block=block)
    return Scored.of(scores, slice_.table.column("hash").to_pylist(), terms)
