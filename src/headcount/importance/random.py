"""Importance drawn at random: the baseline of baselines."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from headcount.units.map import Subset


@dataclass(frozen=True)
class RandomImportance:
    """Uniform scores in [0, 1).

    Attributes:
        seed: Of the draw: equal seeds give equal scores.
    """

    needs_examples: ClassVar[bool] = False
    seed: int = 0

    def scores(
        self, model: nn.Module, batches: Iterable[Mapping[str, Tensor]], subset: Subset
    ) -> Float64[Tensor, " head"]:
        """One score for each head of the subset, in flat order. A head's score does not depend on what else is left."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.rand(len(subset.head_map), dtype=torch.float64, generator=generator)[list(subset.indices)]
