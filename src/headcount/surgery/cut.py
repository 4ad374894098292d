"""Remove heads for good: the matrices get smaller, and the model computes what it computed with those heads gated off.

For every input, the cut model equals the gated model: kept heads keep their weights and their size, a site without
heads keeps the bias of its output projection, and nothing else changes.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, SupportsIndex, TypeAlias

from torch import Tensor, nn
from transformers import PreTrainedModel

from headcount.anatomy import ANATOMY, LiveSite, heads_of, survey, whole_model
from headcount.anatomy.example import random_inputs
from headcount.anatomy.forwards import ConfigView, adapt_forward
from headcount.anatomy.projections import BiasOnly, Positions, keep_inputs
from headcount.anatomy.table import Core
from headcount.errors import BadRecipe, UnsupportedModel
from headcount.gates.trainable import GATES_NAME, Gates, detach
from headcount.surgery.selfcheck import check_cut, gated_outputs
from headcount.units.map import STRUCTURE_NAME, STRUCTURE_VERSION, HeadMap, Subset


def remove_heads(
    model: nn.Module,
    keep: Subset | Mapping[str, Iterable[SupportsIndex]],
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
        example: That batch, as keyword arguments of the model. None: random tokens, pixels or sound.

    Hand over the model that you will save, not a part of it: the structure is recorded by the names it has there.

    Raises:
        BadRecipe: A head to keep does not exist, or is gone already; or key/value groups would be uneven.
        UnsupportedModel: See `anatomy.survey`; or no batch can be made up for the check, or it would not reach a site.
        SurgeryFailed: Gated and cut outputs differ; the model is as it was before, without attached gates.
    """
    whole: Any = whole_model(model)
    sites = survey(whole)
    here = heads_of(sites)
    subset = chosen_subset(here, keep)
    if not subset <= here:
        gone = [f"{head.site}:{head.index}" for head in subset - here]
        raise BadRecipe(f"Cannot keep heads that are gone already: {', '.join(gone)}. This model has: {here}.")
    _require_weights(whole, check)
    inputs = (random_inputs(whole) if example is None else dict(example)) if check else None
    if isinstance(gates := getattr(whole, GATES_NAME, None), Gates):
        gates.warn_if_early()
    detach(whole)  # the hard subset that attached gates apply in evaluation would be applied twice
    expected = None if inputs is None else gated_outputs(whole, inputs, subset, sites)
    before = _snapshot(whole)
    try:
        left = [cut(live, subset.at(live.site.name)) for live in sites]
        if len(subset) < len(subset.head_map):
            _renumber_alignment(whole, here, subset)
            _own_configuration(whole)
            record_structure(whole, left)
        if inputs is not None and expected is not None:
            check_cut(whole, inputs, expected, left)
    except BaseException:
        _restore(before)
        raise
    return model


def _require_weights(model: nn.Module, check: bool) -> None:
    offloaded = any(hasattr(module, "_hf_hook") for module in model.modules())  # accelerate brings weights by hooks
    if (check or offloaded) and any(parameter.is_meta for parameter in model.parameters()):
        raise UnsupportedModel(
            "Some weights are not in memory: the model is offloaded, or was built without weights. "
            "Load it whole (device_map='cpu'), remove heads, save, and load the small one as you like."
        )


def cut(live: LiveSite, kept: list[int]) -> LiveSite:
    """Keep these heads of one site, in the original numbering, and give it as it is now; also on the meta device.

    Raises:
        BadRecipe: Under grouped-query attention, key/value heads would be left with unequal numbers of heads.
    """
    if kept == live.kept:
        return live
    site, core = live.site, live.core
    kv_before, kv_after = live.kv_heads_of(live.kept), live.kv_heads_of(kept)
    group = _even_group(live, kept, kv_after)
    positions = Positions(
        [live.kept.index(head) for head in kept],
        [kv_before.index(kv_head) for kv_head in kv_after],
        len(live.kept),
        len(kv_before),
    )
    live.row.layout(core).cut(core, positions, site.head_size)
    keep_inputs(live.output, positions.heads, site.head_size)
    quantities = {"heads": len(kept), "kv_heads": len(kv_after), "group": group, "width": len(kept) * site.head_size}
    _rewrite(core, {name: quantities[quantity] for name, quantity in live.row.rewrite.items()})
    core.headcount_site = (site.heads, site.kv_heads, list(kept))  # type: ignore[assignment]
    if not kept:
        live.attention.set_submodule(live.row.output, BiasOnly(live.output))
    adapt_forward(live, kept)
    return replace(live, kept=list(kept))


def _even_group(live: LiveSite, kept: list[int], kv_heads: list[int]) -> int:
    """The number of heads that each key/value head is left with; attention kernels know only equal numbers."""
    sizes = [sum(head // live.site.group == kv_head for head in kept) for kv_head in kv_heads]
    if len(set(sizes)) > 1:
        raise BadRecipe(
            f"Site '{live.site.name}' has groups of {live.site.group} heads that share a key/value head; keeping heads "
            f"{kept} would leave {sizes} heads to key/value heads {kv_heads}. Keep whole groups, or as many in each."
        )
    return sizes[0] if sizes else live.site.group


def _rewrite(core: Core, values: Mapping[str, int]) -> None:
    own = {name.removeprefix("config."): value for name, value in values.items() if name.startswith("config.")}
    if own:
        holder: Any = core
        holder.config = ConfigView(getattr(core.config, "headcount_config", core.config), own)
    for name, value in values.items():
        if not name.startswith("config."):
            setattr(core, name, value)


def structure(model: nn.Module, sites: Sequence[LiveSite] | None = None) -> dict[str, object]:
    """The structure of a model as plain data: for every site, how many heads it was built with, and which it kept."""
    found = {live.site.name: {"heads": live.site.heads, "kept": live.kept} for live in (sites or survey(model))}
    return {"quant_method": STRUCTURE_NAME, "format_version": STRUCTURE_VERSION, "sites": found}


def record_structure(model: nn.Module, sites: Sequence[LiveSite] | None = None) -> None:
    """Write the structure into the model's configuration, where `save_pretrained` finds it.

    Static caches are told to take their shape from the keys, layer by layer, not from the configuration; matrices of
    nothing are no longer trained, for they get no gradient, which distributed training would wait for.

    The place is `quantization_config`: the one extension point at which transformers lets a library prepare a model
    before its weights are loaded. A part with a configuration of its own, as CLIP's towers, can be loaded alone from
    the whole model's directory, so its configuration gets its own structure.

    Args:
        model: The model, cut.
        sites: Its sites as they are now. None: it is surveyed.
    """
    config: Any = getattr(model, "config", None)
    if config is not None:  # a module that is no model of transformers has none, and is not saved as one
        config.quantization_config = structure(model, sites)
    for part in model.modules():
        if isinstance(part, PreTrainedModel) and part.config is not config and _has_sites(part):
            part.config.quantization_config = structure(part)
    for parameter in model.parameters():
        if not parameter.numel():
            parameter.requires_grad_(False)
    if hasattr(model, "_get_static_cache_init_shape"):
        model._get_static_cache_init_shape = _no_common_shape  # type: ignore[assignment]


def _own_configuration(model: nn.Module) -> None:
    """Give the model a configuration of its own: the structure is no other's that was made from the same one."""
    copies: dict[int, Any] = {}
    copy.deepcopy(getattr(model, "config", None), copies)  # and of the parts' in it
    for module in model.modules():
        own: Any = getattr(module, "config", None)
        if isinstance(own, ConfigView):
            vars(own)["headcount_config"] = copies.get(id(own.headcount_config), own.headcount_config)
        elif own is not None and id(own) in copies:
            module.config = copies[id(own)]


def _has_sites(part: nn.Module) -> bool:
    return any(type(module).__name__ in ANATOMY for module in part.modules())


def _no_common_shape() -> None:
    """Layers differ in their key/value heads: there is no one shape to build a static cache in beforehand."""


def chosen_subset(here: Subset, keep: object) -> Subset:
    """What is to be kept, of the heads there are."""
    head_map: HeadMap = here.head_map
    if isinstance(keep, Subset):
        if keep.head_map != head_map:
            raise BadRecipe("The subset is of another model. Make one of this model's: head_map(model).subset({...}).")
        return keep
    if not isinstance(keep, Mapping):
        raise BadRecipe(f"Heads to keep are a Subset, or a mapping of sites to lists of heads; got {keep!r}.")
    names = {site.name for site in head_map.sites}
    if strange := [str(name) for name in keep if name not in names]:
        raise BadRecipe(f"This model has no site {', '.join(strange)}. Sites: {', '.join(sorted(names))}.")
    try:
        return head_map.subset({name: keep.get(name, here.at(name)) for name in names})
    except IndexError as error:
        raise BadRecipe(str(error)) from None


def _renumber_alignment(model: nn.Module, before: Subset, after: Subset) -> None:
    """Whisper tells times by certain heads of its cross-attention, by their places: those that stay get new ones."""
    configured: Any = getattr(model, "generation_config", None)
    alignment = getattr(configured, "alignment_heads", None)
    if not alignment:
        return
    crossing = {site.layer: site.name for site in before.head_map.sites if site.kind == "cross"}
    heads = [(crossing[layer], before.at(crossing[layer])[place], layer) for layer, place in alignment]
    left = [[layer, after.at(name).index(head)] for name, head, layer in heads if head in after.at(name)]
    configured.alignment_heads = left
    if not left:  # without any, Whisper says itself that it tells no times
        del configured.alignment_heads


_State: TypeAlias = tuple[object, dict[str, Any], dict[str, dict[Any, Any]]]
"""A module or configuration, what it holds, and copies of the tables among that."""


def _snapshot(model: nn.Module) -> list[_State]:
    """What every module and configuration holds, so that a failed surgery leaves no trace. Copies no weights."""
    configs = {id(c): c for module in model.modules() if (c := getattr(module, "config", None)) is not None}
    generation: Any = getattr(model, "generation_config", None)
    holders: list[Any] = [*model.modules(), *configs.values(), *([] if generation is None else [generation])]
    return [
        (holder, dict(vars(holder)), {name: copy.copy(v) for name, v in vars(holder).items() if isinstance(v, dict)})
        for holder in holders
    ]


def _restore(snapshot: list[_State]) -> None:
    for holder, state, tables in snapshot:
        for name, table in tables.items():
            state[name].clear()  # in place: whoever registered a hook holds on to this very table
            state[name].update(table)
        vars(holder).clear()
        vars(holder).update(state)
