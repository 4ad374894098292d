"""Heads that leave one after the other during training, the least important first, on Zhu and Gupta's cubic schedule.

Neither paper has it. The importance is a running mean of |dL/dgate| from the training's own backward passes, so that
choosing costs nothing; gates are hard at every step, and a head that left does not come back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from headcount.errors import BadRecipe
from headcount.gates.relaxations.straight_through import hard_top_k

GONE = -1.0
"""The score of a head that left: below every importance."""


@dataclass(frozen=True)
class Fading:
    """Gates of a shrinking subset; the scores are importances.

    Attributes:
        keep: The budget: a number of heads, or a fraction of them.
        first: Optimiser step at which heads begin to leave.
        last: Step from which only K are left.
        layer_norm: Divide the importances of each site by their L2 norm before ranking.
        memory: Decay of the running mean, per step.
    """

    keep: int | float
    first: int
    last: int
    layer_norm: bool = False
    memory: float = 0.95

    def __post_init__(self) -> None:
        if not (0 <= self.first <= self.last and 0 <= self.memory < 1):
            raise BadRecipe(
                f"Heads leave from step {self.first} to {self.last}, with a memory of {self.memory}: the steps must be "
                "in order, and the memory in [0, 1)."
            )

    def left(self, heads: int, count: int, step: int) -> int:
        """How many heads are left at a step (Zhu and Gupta 2017, eq. 1): all until `first`, K from `last` on."""
        if step >= self.last:
            return count
        if step <= self.first:
            return heads
        still = 1 - (step - self.first) / (self.last - self.first)
        return count + round((heads - count) * still**3)

    def initial_scores(self, heads: int, generator: torch.Generator) -> Float64[Tensor, " head"]:
        """All alike: nothing is known yet."""
        return torch.zeros(heads, dtype=torch.float64)

    def sample(
        self, scores: Float64[Tensor, " head"], count: int, step: int, generator: torch.Generator
    ) -> Float64[Tensor, " head"]:
        """One for the heads that are left, zero for those that left; nothing is drawn."""
        return hard_top_k(scores, self.left(scores.shape[0], count, step))

    def penalty(self, scores: Float64[Tensor, " head"]) -> Float64[Tensor, ""]:
        """Nothing: the budget is a hard constraint."""
        return torch.zeros((), dtype=torch.float64)

    def update(
        self,
        scores: Float64[Tensor, " head"],
        moments: Float64[Tensor, "2 head"],
        grad: Float64[Tensor, " head"],
        *,
        count: int,
        step: int,
        lr_scale: float,
        sites: Sequence[int],
    ) -> None:
        """Take |gradient| into the running mean, and let go of the least important that the schedule wants gone."""
        stay = hard_top_k(scores, self.left(scores.shape[0], count, step)).bool()
        moments[0].lerp_(grad.abs(), 1 - self.memory)
        importance = moments[0] / (1 - self.memory ** (step + 1))
        if self.layer_norm:
            where = torch.tensor(sites, dtype=torch.long)
            squares = torch.where(stay, importance, 0.0).square()
            norms = torch.zeros(max(sites, default=0) + 1, dtype=torch.float64).index_add(0, where, squares).sqrt()
            importance = importance / norms[where].clamp_min(torch.finfo(torch.float64).tiny)
        scores.copy_(torch.where(stay, importance, GONE))

    def remaining(self, step: int) -> int:
        """Steps until only K heads are left."""
        return max(0, self.last - step)

    def watch(self, scores: Float64[Tensor, " head"], count: int, step: int) -> dict[str, object]:
        """How many heads are left."""
        return {"left": self.left(len(scores), count, step)}
