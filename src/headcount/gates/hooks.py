"""Multiply heads by gates, leaving no trace afterwards.

A gate scales what enters a site's output projection, head by head: a pre-hook on that projection, the same for every
model family and every attention implementation (Li et al. 2021, eq. 4).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from headcount.anatomy import LiveSite, survey
from headcount.errors import BadRecipe
from headcount.units.map import Subset


def scale_heads(
    x: Float[Tensor, "... width"], gates: Float[Tensor, "..."], head_size: int
) -> Float[Tensor, "... width"]:
    """Multiply each head's slice of `x` by its gate; `gates` has one entry a head on its last axis, and broadcasts."""
    by_head = x.reshape(*x.shape[:-1], x.shape[-1] // head_size, head_size)
    return (by_head * gates.unsqueeze(-1)).to(x.dtype).reshape(x.shape)


@contextmanager
def gated(
    model: nn.Module,
    gate_of: Callable[[LiveSite, Tensor], Tensor | None],
    sites: Sequence[LiveSite] | None = None,
) -> Iterator[None]:
    """Within the block, heads are multiplied by gates.

    Args:
        model: A model with known attention.
        gate_of: Called at every pass through a site with what enters its output projection, (..., heads x head size);
            gives the gates of the heads that are there, (..., heads), or None to leave them alone.
        sites: What `survey` found of the model. None: it is asked.
    """
    handles = [hook(live, gate_of) for live in (survey(model) if sites is None else sites) if live.kept]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def masked(model: nn.Module, subset: Subset, sites: Sequence[LiveSite] | None = None) -> AbstractContextManager[None]:
    """Within the block, only the heads of the subset have an effect; the model is not changed.

    Args:
        model: A model with known attention.
        subset: The heads that have an effect.
        sites: What `survey` found of the model. None: it is asked.

    Raises:
        BadRecipe: The subset is of another model.
    """
    sites = survey(model) if sites is None else sites
    if missing := [live.site.name for live in sites if live.site not in subset.head_map.sites]:
        raise BadRecipe(f"The subset is of another model: it has no site like '{missing[0]}'.")

    def gate_of(live: LiveSite, x: Tensor) -> Tensor:
        return torch.tensor([float(i in chosen[live.site.name]) for i in live.kept], dtype=x.dtype, device=x.device)

    chosen = {site.name: set(subset.at(site.name)) for site in subset.head_map.sites}
    return gated(model, gate_of, sites)


def hook(live: LiveSite, gate_of: Callable[[LiveSite, Tensor], Tensor | None]) -> RemovableHandle:
    """Multiply a site's heads by what `gate_of` gives at every pass, until the handle is removed; see `gated`."""
    return live.output.register_forward_pre_hook(_Scale(live, gate_of))


@dataclass
class _Scale:
    """An object, where a function would do, for one who copies the model: a copy's hook is about the copy's site."""

    live: LiveSite
    gate_of: Callable[[LiveSite, Tensor], Tensor | None]

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        gates = self.gate_of(self.live, args[0])
        return None if gates is None else (scale_heads(args[0], gates, self.live.site.head_size), *args[1:])
