"""Hard concrete gates with an L0 penalty (Voita et al. 2019; Louizos et al. 2018; Li et al. 2021, section 4.2.3).

With u uniform in (0, 1), per head a parameter log a, temperature beta and stretch (gamma, zeta):

    s = sigmoid((log u - log(1 - u) + log a) / beta),   gate = clamp(s (zeta - gamma) + gamma, 0, 1)

so gates are exactly 0 or 1 with positive probability, and P(gate > 0) = sigmoid(log a - beta log(-gamma / zeta)).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from headcount.errors import BadRecipe
from headcount.gates.relaxations.learned import LearnedScores

MARGIN = 1e-6
"""Uniform noise keeps this far from 0 and 1, and P(open) is clipped to it, as in Voita et al.'s code."""


@dataclass(frozen=True)
class HardConcrete(LearnedScores):
    """Gates that are pulled shut by a penalty on their expected number; how many stay open is not fixed beforehand.

    Attributes:
        keep: The budget that the final ranking of log a is cut to: a number of heads, or a fraction of them.
        penalty_weight: Lambda: what each expected open gate costs, next to a loss that is a mean over examples. Voita
            et al. average over attention sublayers first: divide their coefficient by the number of sublayers.
        beta: Temperature.
        gamma: Lower end of the stretch, below 0.
        zeta: Upper end of the stretch, above 1.
        lr: Learning rate of log a at the peak of the schedule (Li et al.: 0.1 for BERT).
        clip: Bound on the absolute value of each gradient.
        schedule: See `LearnedScores`.
        open_above: A gate whose value without noise is above this counts as open: 0, as Voita et al. count, or 0.5, as
            Li et al. do.
    """

    keep: int | float
    penalty_weight: float = 0.0015
    beta: float = 0.33
    gamma: float = -0.1
    zeta: float = 1.1
    lr: float = 0.1
    clip: float = 1.0
    schedule: str = "follow"
    open_above: float = 0.0

    def __post_init__(self) -> None:
        self._require_learning()
        if not 0 <= self.open_above < 1:
            raise BadRecipe(f"'open_above' must be in [0, 1), got {self.open_above}.")
        if not (self.gamma < 0 < 1 < self.zeta and self.beta > 0 and self.penalty_weight >= 0):
            raise BadRecipe(
                "A hard concrete gate needs gamma < 0, zeta > 1, beta > 0 and a penalty that is not negative; got "
                f"gamma {self.gamma}, zeta {self.zeta}, beta {self.beta} and {self.penalty_weight}."
            )

    def initial_scores(self, heads: int, generator: torch.Generator) -> Float64[Tensor, " head"]:
        """Uniform log a in +-0.68, as the authors' initialisation gives for 12 heads (Xavier)."""
        return (2 * torch.rand(heads, dtype=torch.float64, generator=generator) - 1) * 0.68

    def sample(
        self, scores: Float64[Tensor, " head"], count: int, step: int, generator: torch.Generator
    ) -> Float64[Tensor, " head"]:
        """Gates for one forward pass, with fresh noise."""
        uniform = torch.rand(scores.shape[0], dtype=torch.float64, generator=generator).clamp(MARGIN, 1 - MARGIN)
        return self._stretched(torch.sigmoid((torch.logit(uniform) + scores) / self.beta))

    def expected(self, scores: Float64[Tensor, " head"]) -> Float64[Tensor, " head"]:
        """Gates without noise, as Louizos et al. test with: not divided by beta."""
        return self._stretched(torch.sigmoid(scores))

    def open_probability(self, scores: Float64[Tensor, " head"]) -> Float64[Tensor, " head"]:
        """P(gate > 0) of each head."""
        return torch.sigmoid(scores - self.beta * math.log(-self.gamma / self.zeta)).clamp(MARGIN, 1 - MARGIN)

    def penalty(self, scores: Float64[Tensor, " head"]) -> Float64[Tensor, ""]:
        """Lambda times the expected number of open gates."""
        return self.penalty_weight * self.open_probability(scores).sum()

    def alive(self, scores: Float64[Tensor, " head"]) -> int:
        """How many gates are open without noise: the count that lambda led to, before it is adjusted to the budget."""
        return int((self.expected(scores) > self.open_above).sum())

    def watch(self, scores: Float64[Tensor, " head"], count: int, step: int) -> dict[str, object]:
        """How many gates are open without noise, and how many are expected to be with it."""
        return {"open": self.alive(scores), "expected_open": float(self.open_probability(scores).sum())}

    def _stretched(self, s: Float64[Tensor, " head"]) -> Float64[Tensor, " head"]:
        return (s * (self.zeta - self.gamma) + self.gamma).clamp(0.0, 1.0)
