"""Remove heads for good: the matrices get smaller, and the model computes what it computed with those heads gated off.

For every input, the cut model equals the gated model: kept heads keep their weights and their size, a site without
heads keeps the bias of its output projection, and nothing else changes.
"""

import copy
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headcount.anatomy import LiveSite, present, survey
from headcount.anatomy.probe import evaluating, random_inputs
from headcount.anatomy.projections import BiasOnly, empty_like_heads, keep_columns
from headcount.errors import BadRecipe, SurgeryFailed
from headcount.gating import detach, masked
from headcount.heads import HeadMap, Subset

FORMAT_VERSION = 1
METHOD_NAME = "headcount"
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 8e-2}
"""Largest difference between gated and cut outputs, as a share of the largest output (at least 1), per data type."""


def remove_heads(
    model: nn.Module,
    keep: Subset | Mapping[str, Iterable[int]],
    *,
    check: bool = True,
    example: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Remove all heads but these from a model, in place, and give it back.

    Gates attached to the model are taken off. Parameters of cut layers are new objects: build the optimiser afterwards.
    The structure is recorded in the model's configuration, so `save_pretrained` writes a directory that
    `from_pretrained` loads once headcount is imported.

    Args:
        model: A model with known attention, already pruned or not.
        keep: The heads to keep, in the original numbering. A mapping names heads per site: sites it leaves out keep
            the heads they have.
        check: Compare gated and cut outputs on a batch before returning.
        example: That batch, as keyword arguments of the model. None: random token ids.

    Raises:
        BadRecipe: A head to keep does not exist, or is gone already.
        UnsupportedModel: See `anatomy.survey`.
        SurgeryFailed: Gated and cut outputs differ; the model is as it was before, without attached gates.
    """
    here = present(model)
    subset = keep if isinstance(keep, Subset) else _from_mapping(here, keep)
    if not subset <= here:
        gone = [f"{head.site}:{head.index}" for head in subset - here]
        raise BadRecipe(f"Cannot keep heads that are gone already: {', '.join(gone)}. This model has: {here}.")
    detach(model)  # the hard subset that attached gates apply in evaluation would be applied twice
    inputs = (random_inputs(model) if example is None else dict(example)) if check else None
    with masked(model, subset):
        expected = None if inputs is None else outputs(model, inputs)
    before = _snapshot(model)
    try:
        for live in survey(model):
            cut(live, subset.at(live.site.name))
        if len(subset) < len(subset.head_map):
            record_structure(model)
        if inputs is not None and expected is not None:
            _compare(expected, outputs(model, inputs))
    except BaseException:
        _restore(before)
        raise
    return model


def cut(live: LiveSite, kept: list[int]) -> None:
    """Keep these heads of one site, in the original numbering; works on the meta device too."""
    if kept == live.kept:
        return
    positions = [live.kept.index(head) for head in kept]
    live.row.inputs.cut(live.core, positions, live.site.head_size)
    keep_columns(live.output, positions, live.site.head_size)
    for name in live.row.heads:
        setattr(live.core, name, len(kept))
    for name in live.row.widths:
        setattr(live.core, name, len(kept) * live.site.head_size)
    if live.row.per_head_argument is not None and not hasattr(live.core, "headcount_kept"):
        narrow = functools.partial(_narrow_per_head_argument, live.row.per_head_argument)
        live.core.register_forward_pre_hook(narrow, with_kwargs=True)
    live.core.headcount_heads, live.core.headcount_kept = live.site.heads, list(kept)  # type: ignore[assignment]
    if not kept:
        live.attention.set_submodule(live.row.output, BiasOnly(live.output))
        live.core.forward = functools.partial(_no_heads, live.core, live.row.output_in_core, live.site.kind)


def structure(model: nn.Module) -> dict[str, Any]:
    """The structure of a model as plain data: for every site, how many heads it was built with, and which it kept."""
    sites = {live.site.name: {"heads": live.site.heads, "kept": live.kept} for live in survey(model)}
    return {"quant_method": METHOD_NAME, "format_version": FORMAT_VERSION, "sites": sites}


def record_structure(model: nn.Module) -> None:
    """Write the structure into the model's configuration, where `save_pretrained` finds it.

    The place is `quantization_config`: the one extension point at which transformers lets a library prepare a model
    before its weights are loaded.
    """
    config: Any = model.config
    config.quantization_config = structure(model)


def outputs(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """The model's first output (logits, or the last hidden state) in evaluation mode, without gradients."""
    with evaluating([model]), torch.no_grad():
        result: Tensor = model(**inputs)[0]
        return result


def _from_mapping(here: Subset, keep: Mapping[str, Iterable[int]]) -> Subset:
    head_map: HeadMap = here.head_map
    names = {site.name for site in head_map.sites}
    if strange := [name for name in keep if name not in names]:
        raise BadRecipe(f"This model has no site {', '.join(strange)}. Sites: {', '.join(sorted(names))}.")
    try:
        return head_map.subset({name: keep.get(name, here.at(name)) for name in names})
    except IndexError as error:
        raise BadRecipe(str(error)) from None


def _narrow_per_head_argument(
    where: tuple[int, str], core: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Keep the kept heads of an argument that was made for all heads of the unpruned model."""
    position, name = where
    kept: Any = core.headcount_kept
    if name in kwargs and kwargs[name] is not None:
        kwargs = {**kwargs, name: kwargs[name][:, kept]}
    elif len(args) > position and args[position] is not None:
        args = (*args[:position], args[position][:, kept], *args[position + 1 :])
    return args, kwargs


def _no_heads(
    core: nn.Module, output: str | None, kind: str, hidden_states: Tensor, *args: Any, **kwargs: Any
) -> tuple[Tensor, None]:
    """The forward pass of a site without heads: nothing to attend with, only the output projection's bias.

    A decoder's cache still has to learn that tokens went by: transformers asks the first layer for the length.
    """
    cache = kwargs.get("past_key_values")
    if cache is not None and kind == "decoder":
        cache = getattr(cache, "self_attention_cache", cache)
        blank = hidden_states.new_zeros(hidden_states.shape[0], 1, hidden_states.shape[1], 1)
        cache.update(blank, blank, core.layer_idx)
    nothing = empty_like_heads(hidden_states)
    return (nothing if output is None else core.get_submodule(output)(nothing)), None


def _compare(gated: Tensor, cut: Tensor) -> None:
    scale = max(1.0, float(gated.abs().max())) if gated.numel() else 1.0
    difference = float((gated - cut).abs().max()) / scale if gated.numel() else 0.0
    allowed = TOLERANCE.get(gated.dtype, 1e-5)
    if not difference <= allowed:
        raise SurgeryFailed(
            f"After cutting, the model's outputs differ from the gated model's by {difference:.1e}; allowed for "
            f"{gated.dtype} is {allowed:.0e}. The model was put back as it was. If its attention was modified, "
            "headcount's table does not describe it; please report the model's class."
        )


def _snapshot(model: nn.Module) -> list[tuple[Any, dict[str, Any]]]:
    """What every module (and the configuration) holds, so that a failed surgery leaves no trace. Copies no weights."""
    holders: list[Any] = [*model.modules(), model.config]
    return [
        (
            holder,
            {name: copy.copy(value) if isinstance(value, dict) else value for name, value in vars(holder).items()},
        )
        for holder in holders
    ]


def _restore(snapshot: list[tuple[Any, dict[str, Any]]]) -> None:
    for holder, state in snapshot:
        vars(holder).clear()
        vars(holder).update(state)
