"""Text that a model continues, the same each time it is asked."""

from __future__ import annotations

import torch
from torch import nn

from headrace.scoring.score import evaluating
from headrace.stream.tokenizer import Encoder

TEMPERATURE = 0.8


def generate(
    model: nn.Module,
    encoder: Encoder,
    prompt: str,
    *,
    new_tokens: int,
    seed: int,
    temperature: float = TEMPERATURE,
) -> str:
    """The continuation of a prompt, without the prompt: at most `new_tokens` tokens, fewer when the model ends it.

    Equal for equal weights, prompt and seed: drawn on the CPU whatever the model's device. Temperature 0 takes the
    likeliest token each time. The prompt follows an EOS, as documents do in training. FloatingPointError when its
    logits are no numbers.
    """
    given = [encoder.eos_id, *encoder.encode([prompt])[0].tolist()]
    device = next(model.parameters()).device
    limit = _positions(model)
    generator = torch.Generator().manual_seed(seed)
    ids = list(given)
    with evaluating(model):
        for _ in range(new_tokens):
            inputs = torch.tensor([ids[-limit:] if limit else ids], device=device)
            logits = model(input_ids=inputs, attention_mask=None, use_cache=False).logits[0, -1]
            ids.append(_draw(logits.float().cpu()[: encoder.size], temperature, generator))
            if ids[-1] == encoder.eos_id:
                break
    # Decoded with the prompt: many tokenizers drop the space before a text's first word.
    ended = ids[:-1] if len(ids) > len(given) and ids[-1] == encoder.eos_id else ids
    return encoder.decode(ended[1:])[len(encoder.decode(given[1:])) :]


def _draw(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> int:
    probabilities = (logits / (temperature or 1.0)).softmax(dim=-1)
    if not probabilities.isfinite().all():
        raise FloatingPointError("the model gives no finite probabilities")
    if temperature == 0:
        return int(logits.argmax())
    return int(torch.multinomial(probabilities, 1, generator=generator))


def _positions(model: nn.Module) -> int | None:
    """Tokens the model takes at most, None without a limit."""
    config = getattr(model, "config", None)
    text = config.get_text_config() if config is not None else None
    found = getattr(text, "max_position_embeddings", None)
    return found if isinstance(found, int) else None
