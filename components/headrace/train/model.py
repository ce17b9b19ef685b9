"""The model that is trained, and the tokenizer that is saved with it."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import InputError
from headrace.inputs import small_files
from headrace.options import Options, training_value
from headrace.scoring.models import fetch_model, load_model, require_weights
from headrace.stream.tokenizer import model_folder
from headrace.train.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

# What transformers itself, or this program, writes into a configuration: no difference between two models.
NO_SHAPE = {
    "_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype", "use_cache",
    "bos_token_id", "eos_token_id", "pad_token_id",
}  # fmt: skip


def open_model(options: Options, ranks: Ranks, scratch: Path, checkpoint: Path | None) -> PreTrainedModel:
    """The model to train, on the CPU: from its source, or as the checkpoint of a run that goes on has it."""
    model = _load(options, ranks, scratch, checkpoint)
    if getattr(model, "loss_type", None) is None:
        # Classes not named …ForCausalLM, such as GPT2LMHeadModel: their targets are shifted all the same.
        model.loss_type = "ForCausalLM"
    return model


def _load(options: Options, ranks: Ranks, scratch: Path, checkpoint: Path | None) -> PreTrainedModel:
    if checkpoint is not None:
        _refuse_other_shape(options, checkpoint)
        return load_model(checkpoint, options.model)
    location = str(options.model.model_name_or_path)
    if options.model.init_from_config:
        folder = model_folder(small_files(location), revision=options.model.model_revision)
        return load_model(folder, options.model, random_init=True, seed=training_value(options, "seed"))
    # Rank 0 fetches; the others then find it, or fetch it where they do not share its disk.
    folder = ranks.together(lambda: _fetch(options, location, scratch))
    return load_model(folder if folder.is_dir() else _fetch(options, location, scratch), options.model)


def _fetch(options: Options, location: str, scratch: Path) -> Path:
    folder = fetch_model(
        location,
        scratch,
        revision=options.model.model_revision,
        trust_remote_code=options.model.trust_remote_code,
    ).folder
    require_weights(folder, location)
    return folder


def _refuse_other_shape(options: Options, checkpoint: Path) -> None:
    """InputError when the flags name a model of another configuration than the run's."""
    asked, has = (_configuration(options, folder) for folder in (_small_folder(options), checkpoint))
    different = [k for k in sorted({*asked, *has} - NO_SHAPE) if asked.get(k) != has.get(k)]
    if different:
        shown = "; ".join(f"{k}: {has.get(k)} → {asked.get(k)}" for k in different[:8])
        raise InputError(
            f"the run that goes on from {checkpoint} has another model; different now: {shown}",
            "give the --model_name_or_path it was started with, or start another run in a new --output_dir",
        )


def _small_folder(options: Options) -> Path:
    location = small_files(str(options.model.model_name_or_path))
    return model_folder(location, revision=options.model.model_revision)


def _configuration(options: Options, folder: Path) -> dict[str, Any]:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        str(folder), trust_remote_code=options.model.trust_remote_code, local_files_only=True
    )
    found: dict[str, Any] = config.to_dict()
    return found


def parameters(model: PreTrainedModel) -> int:
    """Parameters that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def takes_positions(model: PreTrainedModel) -> bool:
    """Whether a model takes the position ids that keep documents in a block apart."""
    return "position_ids" in inspect.signature(model.forward).parameters


def require_positions(model: PreTrainedModel) -> None:
    """InputError for a model that cannot keep documents in one block apart."""
    if not takes_positions(model):
        raise InputError(
            f"{type(model).__name__} takes no position ids: documents in one block would attend to each other",
            "--dataset_group_text false keeps them apart: one document a row",
        )


def open_tokenizer(options: Options) -> tuple[PreTrainedTokenizerBase, Path]:
    """The tokenizer to save beside the model, its pad token falling back to EOS, and the folder it is from."""
    from transformers import AutoTokenizer

    named = options.model.tokenizer
    location = small_files(str(named or options.model.model_name_or_path))
    folder = model_folder(location, revision=None if named else options.model.model_revision)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=options.model.trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"transformers cannot load the tokenizer of {location}: {str(error).splitlines()[0]}",
            "name another with --tokenizer",
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, folder


def share_pad(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the model's configurations the tokenizer's pad token where they name none, so that nothing warns of it."""
    for config in (model.config.get_text_config(), model.generation_config):
        if config is not None and getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = tokenizer.pad_token_id
