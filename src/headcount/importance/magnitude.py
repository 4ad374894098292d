"""Importance of a head as the size of its weights: a baseline that looks at no data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from headcount.anatomy import LiveSite, survey
from headcount.anatomy.projections import Positions, Projection
from headcount.units.map import Subset


@dataclass(frozen=True)
class MagnitudeImportance:
    """The L2 norm of all weights that a head owns: its rows of the query, key and value projections, its columns of the
    output projection; biases left out. Under grouped-query attention the keys and values count for each of their heads.
    """

    needs_examples: ClassVar[bool] = False

    def scores(
        self, model: nn.Module, batches: Iterable[Mapping[str, Tensor]], subset: Subset
    ) -> Float64[Tensor, " head"]:
        """One score for each head of the subset, in flat order. The batches are not looked at."""
        norms = [_norm(live, head) for live in survey(model) for head in subset.at(live.site.name)]
        return torch.tensor(norms, dtype=torch.float64)


def _norm(live: LiveSite, head: int) -> float:
    place, kv_heads = live.kept.index(head), live.kv_heads_of(live.kept)
    kv_place = kv_heads.index(head // live.site.group)
    positions = Positions([place], [kv_place], len(live.kept), len(kv_heads))
    size = live.site.head_size
    owned = [
        _outputs(projection)[block * size : (block + 1) * size]
        for projection, blocks in live.row.layout(live.core).blocks(live.core, positions)
        for block in blocks
    ]
    owned.append(_outputs(live.output).T[place * size : (place + 1) * size])
    return float(torch.cat([block.double().flatten() for block in owned]).norm())


def _outputs(projection: Projection) -> Tensor:
    """Its weight with a row for each output feature."""
    weight = projection.weight.detach()
    return weight.T if isinstance(projection, Conv1D) else weight
