"""Straight-through top K: hard gates forward, the identity backward, no noise and no temperature.

Li et al. 2021, section 4.2.2, after Bengio et al. 2013. Their code keeps the heads whose score is above the K+1st,
which fails at K = H and keeps too few where scores tie; here the top K are always K.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from headcount.errors import BadRecipe
from headcount.gates.relaxations.learned import LearnedScores


class _HardTopK(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, count: int) -> Tensor:
        # Stable, so that ties go to the head that comes first, as in the final subset.
        best = torch.sort(scores, descending=True, stable=True).indices[:count]
        return torch.zeros_like(scores).index_fill_(0, best, 1.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def hard_top_k(scores: Float64[Tensor, " head"], count: int) -> Float64[Tensor, " head"]:
    """One for the top K scores, zero for the rest; its gradient is passed through to all heads, kept or not."""
    if not 0 <= count <= scores.shape[0]:
        raise BadRecipe(f"Cannot keep {count} of {scores.shape[0]} heads. Give a number from 0 to {scores.shape[0]}.")
    gates: Tensor = _HardTopK.apply(scores, count)  # type: ignore[no-untyped-call]
    return gates


@dataclass(frozen=True)
class StraightThrough(LearnedScores):
    """Hard top-K gates with a straight-through gradient (Li et al. 2021, section 4.2.2).

    Attributes:
        keep: The budget: a number of heads, or a fraction of them.
        lr: Learning rate of the scores at the peak of the schedule, as for joint DSP.
        clip: Bound on the absolute value of each score's gradient.
        schedule: See `LearnedScores`.
    """

    keep: int | float
    lr: float = 0.5
    clip: float = 1.0
    schedule: str = "follow"

    def __post_init__(self) -> None:
        self._require_learning()

    def sample(
        self, scores: Float64[Tensor, " head"], count: int, step: int, generator: torch.Generator
    ) -> Float64[Tensor, " head"]:
        """The top K of the scores as they are: nothing is drawn."""
        return hard_top_k(scores, count)

    def watch(self, scores: Float64[Tensor, " head"], count: int, step: int) -> dict[str, object]:
        """Nothing: gates are hard at every step."""
        return {}
