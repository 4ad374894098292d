"""What gates ask of a relaxation; and scores that learn by gradient descent, as the papers' relaxations share it."""

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from headcount.errors import BadRecipe

BETAS = (0.9, 0.999)
SCORE_SCHEDULES = ("follow", "constant")


@runtime_checkable
class Relaxation(Protocol):
    """A differentiable random subset: what makes gates trainable. Its fields are its hyper-parameters.

    Attributes:
        keep: The budget: a number of heads, or a fraction.
    """

    @property
    def keep(self) -> int | float: ...
    def initial_scores(self, heads: int, generator: torch.Generator) -> Float64[Tensor, " head"]:
        """Scores to start from."""
        ...

    def sample(
        self, scores: Float64[Tensor, " head"], count: int, step: int, generator: torch.Generator
    ) -> Float64[Tensor, " head"]:
        """Gates for one forward pass in training, differentiable in the scores."""
        ...

    def penalty(self, scores: Float64[Tensor, " head"]) -> Float64[Tensor, ""]:
        """What is added to the loss."""
        ...

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
        """Move the scores, in place, by a finite gradient; `moments` starts at zeros and is kept from step to step.

        `lr_scale` is where the model's schedule is, in [0, 1]; `sites` has for each head the number of its site.
        """
        ...

    def remaining(self, step: int) -> int:
        """Optimiser steps from this one until its schedule is over and the subset is what the model trains with."""
        ...

    def watch(self, scores: Float64[Tensor, " head"], count: int, step: int) -> dict[str, object]:
        """What a record should hold of the relaxation at this step: its temperature, say."""
        ...


class LearnedScores:
    """Uniform scores to start from; each gradient clipped, then a step of Adam, without weight decay; no penalty.

    Attributes:
        lr: Learning rate at the peak of the model's schedule.
        clip: Bound on the absolute value of each score's gradient.
        schedule: Whether the learning rate is to `follow` the model's schedule, or stays `constant`.
    """

    lr: float
    clip: float
    schedule: str

    def initial_scores(self, heads: int, generator: torch.Generator) -> Float64[Tensor, " head"]:
        """Uniform scores in +-0.5, as the authors' initialisation gives for BERT (Xavier on 12 x 12)."""
        return torch.rand(heads, dtype=torch.float64, generator=generator) - 0.5

    def penalty(self, scores: Float64[Tensor, " head"]) -> Float64[Tensor, ""]:
        """Nothing: the budget is a hard constraint."""
        return torch.zeros((), dtype=torch.float64)

    def remaining(self, step: int) -> int:
        """Nothing, where the relaxation has no schedule."""
        return 0

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
        """One step of Adam, in place."""
        grad = grad.clamp(-self.clip, self.clip)
        moments[0].lerp_(grad, 1 - BETAS[0])
        moments[1].lerp_(grad.square(), 1 - BETAS[1])
        mean, square = (m / (1 - b ** (step + 1)) for m, b in zip(moments, BETAS, strict=True))
        scale = lr_scale if self.schedule == "follow" else 1.0
        scores -= self.lr * scale * mean / (square.sqrt() + 1e-8)

    def _require_learning(self) -> None:
        if not (0 < self.lr < math.inf and self.clip > 0):
            raise BadRecipe(f"The scores' learning rate and clip must be positive, got {self.lr} and {self.clip}.")
        if self.schedule not in SCORE_SCHEDULES:
            raise BadRecipe(f"Unknown schedule of the scores '{self.schedule}'. Valid: {', '.join(SCORE_SCHEDULES)}.")


def generator(seed: int, draw: int) -> torch.Generator:
    """The noise of a draw, by its number from 0; -1 is for the scores to start from."""
    # Mixed first: torch's CPU generator looks at 32 bits of a seed, and neighbouring seeds must not be alike.
    mixed = np.random.SeedSequence([seed, draw + 1]).generate_state(1)[0]
    return torch.Generator().manual_seed(int(mixed))


def entropy(gates: Float64[Tensor, " head"]) -> float:
    """The mean binary entropy of gates, taken as probabilities, in bits."""
    p = gates.clamp(0.0, 1.0)
    bits = torch.special.entr(p) + torch.special.entr(1 - p)
    return float(bits.mean()) / math.log(2) if len(p) else 0.0
