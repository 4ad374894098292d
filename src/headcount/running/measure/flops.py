"""Floating-point operations of a forward pass, and the token batches that models are measured on."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedConfig

from headcount.anatomy.example import evaluating, tokens_named
from headcount.errors import BadRecipe, UnsupportedModel
from headcount.settings.schema import require_least

SPECIAL_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id")


def forward_flops(model: nn.Module, batch_size: int, length: int) -> int:
    """The floating-point operations of one forward pass over `batch_size` sequences of `length` tokens.

    Only matrix products and attention count, a multiplication and its addition as 2 operations; a causal mask
    saves none. The ideal speed-up of a pruned model is the unpruned model's number divided by its own.

    The model runs once, where it is. The meta device is no way around: models look at the mask's values.

    Raises:
        BadRecipe: The batch is empty, or longer than the model can read.
        UnsupportedModel: The model does not take token ids.
    """
    ids = token_batch([model], batch_size, length, seed=0)
    counter = FlopCounterMode(display=False, custom_mapping=_UNCOUNTED)
    with evaluating([model]), torch.no_grad(), counter:
        model(**model_inputs(model, ids))
    return int(counter.get_total_flops())


def token_batch(models: Sequence[nn.Module], batch_size: int, length: int, seed: int) -> Int[Tensor, "batch token"]:
    """Random token ids that all of these models can read: words, and at the end an end of sentence, if known.

    No other special token occurs, because some models count those, as classifiers of BART's kind do.

    Raises:
        BadRecipe: The batch is empty, or longer than one of the models can read.
        UnsupportedModel: A model does not take token ids.
    """
    require_least(1, batch_size=batch_size, length=length)
    for model in models:
        limit = longest_input(model)
        if limit is not None and length > limit:
            raise BadRecipe(
                f"Got length {length}, but {type(model).__name__} reads at most {limit} tokens. "
                f"Give a length from 1 to {limit}."
            )
    vocabulary = min(int(_text_config(model).vocab_size) for model in models)
    texts = [_text_config(model) for model in models]
    special = {token for text in texts for name in SPECIAL_TOKENS for token in tokens_named(text, name)}
    words = [token for token in range(vocabulary) if token not in special] or list(range(vocabulary))
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(words), (batch_size, length), generator=generator, device="cpu")
    ids = torch.tensor(words, device="cpu")[picks]
    if ends := [token for token in tokens_named(texts[0], "eos_token_id") if token < vocabulary]:
        ids[:, -1] = ends[0]
    return ids


def model_inputs(model: nn.Module, ids: Int[Tensor, "batch token"]) -> dict[str, Tensor]:
    """The keyword arguments of a forward pass over these tokens, none padded, on the model's device.

    A model with encoder and decoder reads them on both sides.
    """
    ids = ids.to(next(model.parameters()).device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(model.config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids
    return inputs


def _text_config(model: nn.Module) -> PreTrainedConfig:
    config: Any = getattr(model, "config", None)
    text: PreTrainedConfig = config.get_text_config() if hasattr(config, "get_text_config") else config
    if not hasattr(text, "vocab_size") or getattr(model, "main_input_name", "input_ids") != "input_ids":
        raise UnsupportedModel(
            f"Cannot measure {type(model).__name__}: its main input is not token ids. Give a text model."
        )
    return text


def longest_input(model: nn.Module) -> int | None:
    """The longest sequence a model can read, or None where nothing limits it."""
    limit = getattr(_text_config(model), "max_position_embeddings", None)
    limits = [limit] if isinstance(limit, int) and limit > 0 else []
    for name, module in model.named_modules():
        # RoBERTa's family numbers positions from the padding id up: 514 of them hold 512 tokens.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            assert isinstance(module, nn.Embedding)
            limits.append(module.num_embeddings - int(module.padding_idx or 0) - 1)
    return min(limits, default=None)


def attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object) -> int:
    """Scores and weighted sum, 2 operations a multiply-add. Shapes: (batch, head, token, head_dim)."""
    batch, heads, queries, width = query
    return int(2 * batch * heads * queries * key[-2] * (width + value[-1]))


# PyTorch's counter knows the attention kernels of GPUs only, and takes the CPU's to be free (torch 2.13).
_UNCOUNTED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops}
