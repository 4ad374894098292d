"""Walk a model and find its attention: the head map, and the modules behind each site."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from headcount.anatomy.projections import Projection, require_plain, width_in
from headcount.anatomy.table import ANATOMY, LEFT_ALONE, Row
from headcount.errors import UnsupportedModel
from headcount.units.map import HeadMap, Site, Subset


@dataclass(frozen=True)
class LiveSite:
    """A site together with the modules that are behind it in a loaded model.

    Attributes:
        site: The site, as the model was built.
        row: The facts about its attention class.
        attention: The attention module.
        core: The module that computes the heads.
        kept: The heads that are still there, in the original numbering.
    """

    site: Site
    row: Row
    attention: nn.Module
    core: nn.Module
    kept: list[int]

    @property
    def output(self) -> Projection:
        """The output projection: heads enter it side by side, `head_size` columns each."""
        return require_plain(self.attention.get_submodule(self.row.output), f"{self.site.name}.{self.row.output}")

    def kv_heads_of(self, heads: list[int]) -> list[int]:
        """The key/value heads, in the original numbering, that these heads attend with."""
        return sorted({head // self.site.group for head in heads})


def whole_model(model: nn.Module) -> nn.Module:
    """The model whose configuration is saved, inside adapters, compiled models and wrappers: names are as it has them.

    A module that holds no model of transformers is one itself.

    Raises:
        UnsupportedModel: It holds several, side by side.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, PreTrainedModel) and not _inside(name, [*found]):
            found[name] = module
            if name == "":
                break
    if len(found) > 1:
        raise UnsupportedModel(
            f"{type(model).__name__} holds several models: {_few([*found])}. Hand over one of them at a time."
        )
    return next(iter(found.values()), model)


def survey(model: nn.Module) -> list[LiveSite]:
    """The attention sublayers of a model, in order, whether or not heads are gone already; see `whole_model`.

    Raises:
        UnsupportedModel: No attention is known to the table; or some is and some is not; or a projection is not a
            plain linear layer. Nothing is ever cut on a guess.
    """
    model = whole_model(model)
    _require_unquantized(model)
    found = [_live(name, module) for name, module in model.named_modules() if type(module).__name__ in ANATOMY]
    known = [live.site.name for live in found]
    alone = [name for name, module in model.named_modules() if type(module).__name__ in LEFT_ALONE]
    fused = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.MultiheadAttention) and not _inside(name, alone)
    ]
    if fused:
        raise UnsupportedModel(
            f"{type(model).__name__} holds torch.nn.MultiheadAttention at {_few(fused)}. It can be neither gated nor "
            "cut: it reads the weights of its output projection without calling it, and its input projection is one "
            "matrix of a fixed shape. Replace it by attention with separate linear layers."
        )
    _require_untied(found)
    unknown = [f"{name} ({kind})" for name, kind in _unknown_attention(model, [*known, *alone])]
    if unknown or not found:
        what = f"attention that headcount does not know. Looked at: {_few(unknown)}" if unknown else "no attention"
        raise UnsupportedModel(
            f"{type(model).__name__} has {what}. Known are {len(ANATOMY)} classes of the families in docs/families.md; "
            "a new family is one row of headcount.anatomy.ANATOMY: see docs/add-a-family.md."
        )
    return found


def head_map(model: nn.Module) -> HeadMap:
    """The head map of a model as it was built; heads that are gone keep their numbers.

    Raises:
        UnsupportedModel: See `survey`.
    """
    return HeadMap(tuple(live.site for live in survey(model)))


def present(model: nn.Module) -> Subset:
    """The heads that a model has now, in the original numbering: all of them, before surgery."""
    return heads_of(survey(model))


def heads_of(sites: Sequence[LiveSite]) -> Subset:
    """The heads that these sites have now; give all sites of a model, as `survey` does."""
    return HeadMap(tuple(live.site for live in sites)).subset({live.site.name: live.kept for live in sites})


def _live(name: str, attention: nn.Module) -> LiveSite:
    row = ANATOMY[type(attention).__name__]
    core = attention.get_submodule(row.core)
    layout = row.layout(core)
    layout.check(core, name)
    head_size = int(getattr(core, row.head_size))
    output = require_plain(attention.get_submodule(row.output), f"{name}.{row.output}")
    now = width_in(output) // head_size
    # What surgery left on the module says how it was built; without it, it is as it was built.
    heads, kv_heads, kept = getattr(core, "headcount_site", None) or (
        now,
        layout.kv_heads(core, now, head_size),
        list(range(now)),
    )
    numbers = [int(number) for number in re.findall(r"\.(\d+)(?=\.|$)", "." + name)]
    layer = numbers[row.layer_at] if len(numbers) >= abs(row.layer_at) else 0
    site = Site(name, row.kind(name, attention), layer, heads, kv_heads, head_size)
    if width_in(output) != len(kept) * head_size:
        raise UnsupportedModel(
            f"Site '{name}' should have {len(kept)} heads of {head_size}, but its output projection reads "
            f"{width_in(output)} features. It was changed by something other than headcount."
        )
    return LiveSite(site, row, attention, core, list(kept))


def _require_unquantized(model: nn.Module) -> None:
    quantizer: Any = getattr(model, "hf_quantizer", None)
    if quantizer is not None and getattr(model, "is_quantized", True):
        raise UnsupportedModel(
            f"{type(model).__name__} is quantized ({type(quantizer).__name__}): its weights are packed, and heads "
            "cannot be sliced out of them. Load it without quantization, prune, save, and quantize the pruned model."
        )


def _require_untied(found: list[LiveSite]) -> None:
    owner: dict[int, str] = {}
    for live in found:
        for name, parameter in live.attention.named_parameters():
            if owner.setdefault(id(parameter), live.site.name) != live.site.name:
                raise UnsupportedModel(
                    f"Sites '{owner[id(parameter)]}' and '{live.site.name}' share '{name}'. To cut one would untie "
                    "them, and the model would grow. Layers that share a whole attention module are one site."
                )


def _unknown_attention(model: nn.Module, known: list[str]) -> Iterator[tuple[str, str]]:
    """Modules that look like attention but are no site, no part of one, and no frame around one."""
    for name, module in model.named_modules():
        kind = type(module).__name__
        around = any(site.startswith(name + ".") for site in known) or name == ""
        if "Attention" in kind and not _inside(name, known) and not around:
            yield name, kind


def _inside(name: str, sites: list[str]) -> bool:
    return any(name == site or name.startswith(site + ".") for site in sites)


def _few(names: list[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
