"""Looking at a model without changing it: random inputs that it accepts, and evaluation mode for a while."""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from headcount.errors import UnsupportedModel


def random_inputs(model: nn.Module, batch: int = 2, length: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """A random batch that the model accepts, on its device: token ids, pixels, spectrograms or waves, as it reads.

    Of texts the last is padded. Shapes: (batch, length) for texts; images and spectrograms as the configuration says.

    Raises:
        UnsupportedModel: The model reads something else.
    """
    config: Any = model.config
    accepted = inspect.signature(model.forward).parameters
    names = [getattr(model, "main_input_name", "input_ids")]
    if hasattr(config, "vision_config") and hasattr(config, "text_config") and not _generates(model):
        names = [name for name in ("input_ids", "pixel_values") if name in accepted]  # CLIP compares the two
    generator = torch.Generator().manual_seed(seed)
    inputs: dict[str, Tensor] = {}
    for name in names:
        if name not in _MAKERS:
            raise UnsupportedModel(
                f"Cannot make up an input for {type(model).__name__}, whose main input is '{name}'. "
                "Hand over an example batch: remove_heads(..., example={...})."
            )
        inputs |= _MAKERS[name](config, batch, length, generator)
    if "decoder_input_ids" in accepted and getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = _tokens(config, batch, length - 2, generator)["input_ids"]
    device = next(model.parameters()).device
    return {name: value.to(device) for name, value in inputs.items() if name in accepted}


def _generates(model: Any) -> bool:
    return bool(model.can_generate()) if hasattr(model, "can_generate") else False


def _tokens(config: Any, batch: int, length: int, generator: torch.Generator) -> dict[str, Tensor]:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    if not hasattr(text, "vocab_size"):
        raise UnsupportedModel(
            f"Cannot make up an input: {type(config).__name__} tells no size of a vocabulary. "
            "Hand over an example batch: remove_heads(..., example={...})."
        )
    # Families that count positions from the padding id (RoBERTa) need two more positions than tokens.
    length = max(2, min(length, (getattr(text, "max_position_embeddings", None) or length + 4) - 4))
    pad = getattr(text, "pad_token_id", None)
    pad = pad if isinstance(pad, int) and 0 <= pad < text.vocab_size else 0
    ids = torch.randint(0, text.vocab_size - 1, (batch, length), generator=generator)
    ids += ids >= pad  # every id but the padding's
    mask = torch.ones_like(ids)
    mask[-1, -max(1, length // 4) :] = 0
    ids[mask == 0] = pad
    return {"input_ids": ids, "attention_mask": mask}


def _pixels(config: Any, batch: int, length: int, generator: torch.Generator) -> dict[str, Tensor]:
    vision = getattr(config, "vision_config", config)
    size = vision.image_size
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return {"pixel_values": torch.randn(batch, vision.num_channels, height, width, generator=generator)}


def _features(config: Any, batch: int, length: int, generator: torch.Generator) -> dict[str, Tensor]:
    if hasattr(config, "input_feat_per_channel"):  # Speech2Text reads any length, two convolutions halve it
        shape = (batch, 4 * length, config.input_feat_per_channel)
    else:
        shape = (batch, config.num_mel_bins, 2 * config.max_source_positions)
    return {"input_features": torch.randn(*shape, generator=generator)}


def _wave(config: Any, batch: int, length: int, generator: torch.Generator) -> dict[str, Tensor]:
    if hasattr(config, "conv_stride"):
        shape: tuple[int, ...] = (batch, math.prod(config.conv_stride) * (length + 2))
    else:
        shape = (batch, config.max_length, config.num_mel_bins)
    return {"input_values": torch.randn(*shape, generator=generator)}


_MAKERS: dict[str, Callable[[Any, int, int, torch.Generator], dict[str, Tensor]]] = {
    "input_ids": _tokens,
    "pixel_values": _pixels,
    "input_features": _features,
    "input_values": _wave,
}


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
