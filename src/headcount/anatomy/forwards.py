"""The forward passes of sites that lost heads, where a family's own would not do.

A site without heads needs a stand-in; a position bias made for all heads of the unpruned model must be narrowed. All
of these are plain functions bound to the core by `functools.partial`, so that a model with them can be copied.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedConfig

from headcount.anatomy.projections import empty_like_heads
from headcount.anatomy.survey import LiveSite
from headcount.anatomy.table import Core, Row

_STATES = ("key_value_states", "encoder_hidden_states")
"""What cross-attention calls what it looks at."""


def adapt_forward(live: LiveSite, kept: list[int]) -> None:
    """Let a core that has these heads left compute its forward pass. Called after each cut."""
    core: Any = live.core
    names = tuple(inspect.signature(type(core).forward).parameters)[1:]
    if live.row.per_head_arguments and not hasattr(core, "headcount_narrows"):
        where = {names.index(name): name for name in live.row.per_head_arguments}
        core.register_forward_pre_hook(functools.partial(_narrow_arguments, where), with_kwargs=True)
        core.headcount_narrows = True
    crossing = live.site.kind == "cross"
    if live.row.bias is not None:
        core.compute_bias = functools.partial(_narrow_bias, core)
        if live.row.bias == "shared":
            core.forward = functools.partial(_forward_with_shared_bias, core, names, crossing)
    if not kept:
        core.forward = functools.partial(_forward_without_heads, core, live.row, names, live.site.kind)


def _kept(core: Core) -> list[int]:
    kept: list[int] = core.headcount_site[2]
    return kept


def _named(names: tuple[str, ...], args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, object]:
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _narrow_arguments(
    where: dict[int, str], core: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    """Keep the kept heads of arguments that were made for all heads of the unpruned model."""
    args = tuple(_narrowed(core, value) if position in where else value for position, value in enumerate(args))
    return args, {name: _narrowed(core, value) if name in where.values() else value for name, value in kwargs.items()}


def _narrowed(core: Core, x: object) -> object:
    heads: int = core.headcount_site[0]
    if not isinstance(x, Tensor):
        return x
    if x.dim() == 4:
        return x[:, _kept(core)] if x.shape[1] == heads else x  # an axis of 1 broadcasts over heads
    return x.reshape(-1, heads, *x.shape[1:])[:, _kept(core)].flatten(0, 1)


def _narrow_bias(core: Core, *args: object, **kwargs: object) -> Tensor:
    """The family's position bias, of the kept heads. Shape: (1, head, query, key)."""
    family: Any = type(core)
    bias: Tensor = family.compute_bias(core, *args, **kwargs)[:, _kept(core)]
    return bias


def _forward_with_shared_bias(
    core: Core, names: tuple[str, ...], crossing: bool, *args: object, **kwargs: object
) -> tuple[object, ...]:
    """T5's forward pass with some heads: the bias it uses is narrowed, the bias it hands on is for all heads.

    Cross-attention's bias is zeros, of as many heads as the layer has; handing on none lets each layer make its own.
    """
    arguments: dict[str, Any] = _named(names, args, kwargs)
    given, cache = arguments.get("position_bias"), arguments.get("past_key_values")
    past = _length(cache, core.layer_idx)
    if given is not None:
        arguments["position_bias"] = given[:, _kept(core)]
    family: Any = type(core)
    result = family.forward(core, **arguments)
    if crossing:
        return (result[0], None, *result[2:])
    if given is None:
        queries, keys = result[1].shape[-2:]
        given = _whole_bias(core, queries, keys, past, result[0].device)
    return (result[0], given, *result[2:])


def _forward_without_heads(
    core: Core, row: Row, names: tuple[str, ...], kind: str, *args: object, **kwargs: object
) -> tuple[object, ...]:
    """The forward pass of a site without heads: nothing to attend with, only the output projection's bias.

    A decoder's cache still has to learn that tokens went by: transformers asks the first layer for the length, and
    Whisper takes every layer of the cache apart.
    """
    arguments: dict[str, Any] = _named(names, args, kwargs)
    hidden = arguments[names[0]]
    cache = arguments.get("past_key_values", arguments.get("layer_past"))
    past = _length(cache, core.layer_idx) if row.bias == "shared" else 0
    states = next((arguments[name] for name in _STATES if arguments.get(name) is not None), hidden)
    keys = states.shape[1]
    if cache is not None and kind == "decoder":
        own = getattr(cache, "self_attention_cache", cache)
        keys = own.update(*_blank(hidden), core.layer_idx)[0].shape[-2]
    elif cache is not None and kind == "cross" and not cache.is_updated.get(core.layer_idx):
        cache.cross_attention_cache.update(*_blank(states), core.layer_idx)
        cache.is_updated[core.layer_idx] = True
    attended = empty_like_heads(hidden)
    if row.output_in_core is not None:
        attended = core.get_submodule(row.output_in_core)(attended)
    if row.after is not None:
        attended = row.after(core, attended, arguments)
    if core.training:  # what comes before has a gradient, of zeros: distributed training waits for one
        attended = attended + 0 * hidden[..., :1]
    rest: list[Any] = [None] * (row.returns - 1)
    # A core without a configuration knows no other attention.
    if getattr(getattr(core, "config", None), "_attn_implementation", "eager") == "eager":
        rest[-1] = hidden.new_zeros(hidden.shape[0], 0, hidden.shape[1], keys)  # weights of no head, in their place
    if row.bias == "shared" and kind != "cross":
        bias = arguments.get("position_bias")
        rest[0] = _whole_bias(core, hidden.shape[1], keys, past, hidden.device) if bias is None else bias
    return (attended, *rest)


def _blank(hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of one head of width 1. Shape: (batch, token, model) -> (batch, 1, token, 1)."""
    blank = hidden.new_zeros(hidden.shape[0], 1, hidden.shape[1], 1)
    return blank, blank


def _length(cache: Cache | None, layer: int) -> object:
    """How many tokens went by before this call; a static cache counts in a tensor, which the call will change."""
    if cache is None:
        return 0
    past = cache.get_seq_length(layer)
    return past.clone() if isinstance(past, torch.Tensor) else past


def _whole_bias(core: Core, queries: object, keys: object, past: object, device: torch.device) -> Tensor:
    """The family's position bias of all heads. The sizes are numbers, or symbols while a graph is traced."""
    family: Any = type(core)
    bias: Tensor = family.compute_bias(core, queries, keys, device=device, past_seen_tokens=past)
    return bias


class ConfigView:
    """A module's configuration with some entries of its own; all others are those of the model's, as they are now."""

    def __init__(self, config: PreTrainedConfig, own: Mapping[str, object]) -> None:
        self.__dict__.update(own, headcount_config=config)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "headcount_config":  # while a copy is being made there is nothing to ask
            raise AttributeError(name)
        return getattr(self.headcount_config, name)
