"""Walk a model and find its attention: the head map, and the modules behind each site."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from headcount.anatomy.projections import require_linear
from headcount.anatomy.table import ANATOMY, Row
from headcount.errors import UnsupportedModel
from headcount.heads import HeadMap, Site, Subset


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
    def output(self) -> nn.Linear:
        """The output projection: heads enter it side by side, `head_size` columns each."""
        return require_linear(self.attention.get_submodule(self.row.output), f"{self.site.name}.{self.row.output}")


def survey(model: nn.Module) -> list[LiveSite]:
    """The attention sublayers of a model, in order, whether or not heads are gone already.

    Raises:
        UnsupportedModel: No attention is known to the table; or some is and some is not; or a projection is not a
            plain linear layer. Nothing is ever cut on a guess.
    """
    found = [_live(name, module) for name, module in model.named_modules() if type(module).__name__ in ANATOMY]
    known = [live.site.name for live in found]
    unknown = [f"{name} ({kind})" for name, kind in _unknown_attention(model, known)]
    fused = [name for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)]
    if fused:
        raise UnsupportedModel(
            f"{type(model).__name__} holds torch.nn.MultiheadAttention at {_few(fused)}. It can be neither gated nor "
            "cut: it reads the weights of its output projection without calling it, and its input projection is one "
            "matrix of a fixed shape. Replace it by attention with separate linear layers."
        )
    if unknown or not found:
        looked = _few(unknown) or "no module whose class name has 'Attention'"
        raise UnsupportedModel(
            f"{type(model).__name__} has attention that headcount does not know. Looked at: {looked}. Known classes: "
            f"{', '.join(ANATOMY)}. A new family is one row of headcount.anatomy.ANATOMY: see docs/add-a-family.md."
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
    found = survey(model)
    return HeadMap(tuple(live.site for live in found)).subset({live.site.name: live.kept for live in found})


def _live(name: str, attention: nn.Module) -> LiveSite:
    row = ANATOMY[type(attention).__name__]
    core = attention.get_submodule(row.core)
    row.inputs.check(core, name)
    heads = getattr(core, "headcount_heads", None) or getattr(core, row.heads[0])
    kept = list(getattr(core, "headcount_kept", range(heads)))
    layer = [int(number) for number in re.findall(r"\.(\d+)(?=\.|$)", "." + name)]
    site = Site(
        name=name,
        kind=row.kind(attention),
        layer=layer[-1] if layer else 0,
        heads=heads,
        kv_heads=heads,
        head_size=getattr(core, row.head_size),
    )
    live = LiveSite(site, row, attention, core, kept)
    if live.output.in_features != len(kept) * site.head_size:
        raise UnsupportedModel(
            f"Site '{name}' should have {len(kept)} heads of {site.head_size}, but its output projection reads "
            f"{live.output.in_features} features. It was changed by something other than headcount."
        )
    return live


def _unknown_attention(model: nn.Module, known: list[str]) -> Iterator[tuple[str, str]]:
    """Modules that look like attention but are no site, no part of one, and no frame around one."""
    for name, module in model.named_modules():
        kind = type(module).__name__
        inside = any(name == site or name.startswith(site + ".") for site in known)
        around = any(site.startswith(name + ".") for site in known) or name == ""
        if "Attention" in kind and not inside and not around:
            yield name, kind


def _few(names: list[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
