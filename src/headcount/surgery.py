"""Remove heads for good: the matrices get smaller, and the model computes what it computed with those heads gated off.

For every input, the cut model equals the gated model: kept heads keep their weights and their size, a site without
heads keeps the bias of its output projection, and nothing else changes.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headcount.anatomy import ANATOMY, LiveSite, present, survey
from headcount.anatomy.forwards import ConfigView, adapt_forward
from headcount.anatomy.probe import evaluating, random_inputs
from headcount.anatomy.projections import BiasOnly, Positions, keep_inputs
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
        expected = None if inputs is None else _everything(model, inputs)
    before = _snapshot(model)
    try:
        for live in survey(model):
            cut(live, subset.at(live.site.name))
        if len(subset) < len(subset.head_map):
            record_structure(model)
        if inputs is not None and expected is not None:
            for what, tensor in _everything(model, inputs).items():
                _compare(what, expected[what], tensor)
    except BaseException:
        _restore(before)
        raise
    return model


def cut(live: LiveSite, kept: list[int]) -> None:
    """Keep these heads of one site, in the original numbering; works on the meta device too.

    Raises:
        BadRecipe: Under grouped-query attention, key/value heads would be left with unequal numbers of heads.
    """
    if kept == live.kept:
        return
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


def _even_group(live: LiveSite, kept: list[int], kv_heads: list[int]) -> int:
    """The number of heads that each key/value head is left with; attention kernels know only equal numbers."""
    sizes = [sum(head // live.site.group == kv_head for head in kept) for kv_head in kv_heads]
    if len(set(sizes)) > 1:
        raise BadRecipe(
            f"Site '{live.site.name}' has groups of {live.site.group} heads that share a key/value head; keeping heads "
            f"{kept} would leave {sizes} heads to key/value heads {kv_heads}. Keep whole groups, or as many in each."
        )
    return sizes[0] if sizes else live.site.group


def _rewrite(core: Any, values: Mapping[str, int]) -> None:
    own = {name.removeprefix("config."): value for name, value in values.items() if name.startswith("config.")}
    if own:
        core.config = ConfigView(getattr(core.config, "headcount_config", core.config), own)
    for name, value in values.items():
        if not name.startswith("config."):
            setattr(core, name, value)


def structure(model: nn.Module) -> dict[str, Any]:
    """The structure of a model as plain data: for every site, how many heads it was built with, and which it kept."""
    sites = {live.site.name: {"heads": live.site.heads, "kept": live.kept} for live in survey(model)}
    return {"quant_method": METHOD_NAME, "format_version": FORMAT_VERSION, "sites": sites}


def record_structure(model: nn.Module) -> None:
    """Write the structure into the model's configuration, where `save_pretrained` finds it.

    Static caches are told to take their shape from the keys, layer by layer, not from the configuration.

    The place is `quantization_config`: the one extension point at which transformers lets a library prepare a model
    before its weights are loaded. A part with a configuration of its own, as CLIP's towers, can be loaded alone from
    the whole model's directory, so its configuration gets its own structure.
    """
    config: Any = model.config
    config.quantization_config = structure(model)
    for part in model.modules():
        if isinstance(part, PreTrainedModel) and part.config is not config and _has_sites(part):
            part.config.quantization_config = structure(part)
    if hasattr(model, "_get_static_cache_init_shape"):
        model._get_static_cache_init_shape = _no_common_shape  # type: ignore[assignment]


def _has_sites(part: nn.Module) -> bool:
    return any(type(module).__name__ in ANATOMY for module in part.modules())


def _no_common_shape() -> None:
    """Layers differ in their key/value heads: there is no one shape to build a static cache in beforehand."""


def outputs(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """What the model computes of these inputs in evaluation mode, without gradients.

    All floating-point outputs (logits, hidden state, embeddings) side by side, flattened.
    """
    with evaluating([model]), torch.no_grad():
        result: Any = model(**inputs)
    values = result.values() if isinstance(result, Mapping) else result
    found = [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]
    return torch.cat([value.flatten() for value in found])


def generated(model: Any, inputs: Mapping[str, Tensor], steps: int = 2) -> Tensor:
    """The logits of so many greedy steps of `generate`, with its cache. Shape: (batch, step, vocabulary)."""
    own = {name: value for name, value in inputs.items() if name != "decoder_input_ids"}
    with evaluating([model]), torch.no_grad():
        result: Any = model.generate(
            **own, max_new_tokens=steps, min_new_tokens=steps, do_sample=False, num_beams=1,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
    return torch.stack(result.logits, dim=1)


def _everything(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What gated and cut model must agree on."""
    found = {"outputs": outputs(model, inputs)}
    if hasattr(model, "can_generate") and model.can_generate():
        # The second step reads the cache: its length is where a site without heads in the first layer would show.
        found["outputs while generating"] = generated(model, inputs)
    return found


def _from_mapping(here: Subset, keep: Mapping[str, Iterable[int]]) -> Subset:
    head_map: HeadMap = here.head_map
    names = {site.name for site in head_map.sites}
    if strange := [name for name in keep if name not in names]:
        raise BadRecipe(f"This model has no site {', '.join(strange)}. Sites: {', '.join(sorted(names))}.")
    try:
        return head_map.subset({name: keep.get(name, here.at(name)) for name in names})
    except IndexError as error:
        raise BadRecipe(str(error)) from None


def _compare(what: str, gated: Tensor, cut: Tensor) -> None:
    scale = max(1.0, float(gated.abs().max())) if gated.numel() else 1.0
    difference = float((gated - cut).abs().max()) / scale if gated.numel() else 0.0
    allowed = TOLERANCE.get(gated.dtype, 1e-5)
    if not difference <= allowed:
        raise SurgeryFailed(
            f"After cutting, the model's {what} differ from the gated model's by {difference:.1e}; allowed for "
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
