"""Looking at a model without changing it: random inputs that it accepts, and evaluation mode for a while."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from headcount.errors import UnsupportedModel


def random_inputs(model: nn.Module, batch: int = 2, length: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """A random batch of token ids with an attention mask; the last sequence is padded. Shapes: (batch, length).

    Raises:
        UnsupportedModel: The model does not take token ids.
    """
    config: Any = model.config
    if getattr(model, "main_input_name", "input_ids") != "input_ids" or not hasattr(config, "vocab_size"):
        raise UnsupportedModel(
            f"Cannot make up an input for {type(model).__name__}, whose main input is not token ids. "
            "Hand over an example batch: remove_heads(..., example={...})."
        )
    # Families that count positions from the padding id (RoBERTa) need two more positions than tokens.
    length = max(2, min(length, getattr(config, "max_position_embeddings", length + 4) - 4))
    pad = getattr(config, "pad_token_id", None) or 0
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, config.vocab_size - 1, (batch, length), generator=generator)
    ids += ids >= pad  # every id but the padding's
    mask = torch.ones_like(ids)
    mask[-1, -max(1, length // 4) :] = 0
    ids[mask == 0] = pad
    device = next(model.parameters()).device
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


@contextmanager
def evaluating(models: Sequence[nn.Module]) -> Iterator[None]:
    """Evaluation mode for these models; afterwards every module of theirs is back in the mode it was in."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
