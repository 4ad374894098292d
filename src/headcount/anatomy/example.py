"""Looking at a model without changing it: random inputs that it accepts, and evaluation mode for a while."""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from headcount.errors import UnsupportedModel

_HAND_OVER = "Hand over an example batch: example={...}."


def random_inputs(model: nn.Module, batch: int = 2, length: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """A random batch that the model accepts, on its device: token ids, pixels, spectrograms or waves, as it reads.

    Of several texts the last is padded. Shapes: (batch, length) for texts; images and sound as the configuration says.

    Raises:
        UnsupportedModel: The model reads something else.
    """
    config: Any = getattr(model, "config", None)
    if config is None:
        raise UnsupportedModel(
            f"Cannot make up an input for {type(model).__name__}, which has no configuration. {_HAND_OVER}"
        )
    accepted = inspect.signature(model.forward).parameters
    # These make the decoder's tokens of the encoder's themselves; and a decoder pools where its padding begins.
    pools = type(model).__name__.endswith(("ForSequenceClassification", "ForQuestionAnswering"))
    if pools and getattr(config, "pad_token_id", None) is None:
        batch = 1
    names = [getattr(model, "main_input_name", "input_ids")]
    if hasattr(config, "vision_config") and hasattr(config, "text_config") and not generates(model):
        names = [name for name in ("input_ids", "pixel_values") if name in accepted]  # CLIP compares the two
    generator = torch.Generator().manual_seed(seed)
    inputs: dict[str, Tensor] = {}
    for name in names:
        if name not in _MAKERS:
            raise UnsupportedModel(
                f"Cannot make up an input for {type(model).__name__}, whose main input is '{name}'. {_HAND_OVER}"
            )
        try:
            inputs |= _MAKERS[name](config, batch, length, generator)
        except AttributeError as error:
            raise UnsupportedModel(
                f"Cannot make up an input for {type(model).__name__}: {error}. {_HAND_OVER}"
            ) from error
    if "decoder_input_ids" in accepted and getattr(config, "is_encoder_decoder", False) and not pools:
        inputs["decoder_input_ids"] = _tokens(config, batch, length - 2, generator)["input_ids"]
    like = next(model.parameters())
    return {
        name: value.to(like.device, like.dtype if value.is_floating_point() else None)
        for name, value in inputs.items()
        if name in accepted
    }


def generates(model: nn.Module) -> bool:
    """Whether transformers generates with the model."""
    return bool(getattr(model, "can_generate", bool)())


def _tokens(config: PreTrainedConfig, batch: int, length: int, generator: torch.Generator) -> dict[str, Tensor]:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    if not hasattr(text, "vocab_size"):
        raise UnsupportedModel(
            f"Cannot make up an input: {type(config).__name__} tells no size of a vocabulary. {_HAND_OVER}"
        )
    # Families that count positions from the padding id (RoBERTa) need two more positions than tokens.
    length = max(2, min(length, (getattr(text, "max_position_embeddings", None) or length + 4) - 4))
    pads, ends = (tokens_named(text, name) for name in ("pad_token_id", "eos_token_id"))
    pad, end = next(iter(pads), 0), next(iter(ends), None)
    words = torch.tensor([token for token in range(text.vocab_size) if token not in (pad, *ends)])
    ids = words[torch.randint(len(words), (batch, length), generator=generator)]
    mask = torch.ones_like(ids)
    if batch > 1:
        mask[-1, -max(1, length // 4) :] = 0
    if end is not None and end != pad:  # one in each text: some classifiers read the state there
        ids[range(batch), mask.sum(1) - 1] = end
    ids[mask == 0] = pad
    return {"input_ids": ids, "attention_mask": mask}


def tokens_named(config: PreTrainedConfig, name: str) -> list[int]:
    """The special tokens that a configuration has under a name: none, one, or several, as Llama 3's ends of a text."""
    given = getattr(config, name, None)
    tokens = given if isinstance(given, list | tuple) else [given]
    return [token for token in tokens if isinstance(token, int) and 0 <= token < config.vocab_size]


def _pixels(config: PreTrainedConfig, batch: int, length: int, generator: torch.Generator) -> dict[str, Tensor]:
    vision = getattr(config, "vision_config", None) or getattr(config, "encoder", config)
    size = vision.image_size
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return {"pixel_values": torch.randn(batch, vision.num_channels, height, width, generator=generator)}


def _features(config: PreTrainedConfig, batch: int, length: int, generator: torch.Generator) -> dict[str, Tensor]:
    if hasattr(config, "input_feat_per_channel"):  # Speech2Text reads any length, two convolutions halve it
        shape = (batch, 4 * length, config.input_feat_per_channel)
    else:
        shape = (batch, config.num_mel_bins, 2 * config.max_source_positions)
    return {"input_features": torch.randn(*shape, generator=generator)}


def _wave(config: PreTrainedConfig, batch: int, length: int, generator: torch.Generator) -> dict[str, Tensor]:
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
