"""How the temperature of a relaxation falls during training."""

import math
from dataclasses import dataclass

from headcount.errors import BadRecipe


@dataclass(frozen=True)
class LogLinear:
    """A temperature that falls on a log-linear scale, then stays (Li et al. 2021, eq. 24 and Table 2).

    Attributes:
        start: Temperature at the first step.
        end: Temperature from step `steps` on.
        steps: Optimiser steps of cooling, counted from the start of this training. 0: at `end` from the first step.
    """

    start: float = 1000.0
    end: float = 1e-8
    steps: int = 25_000

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.end > 0 and self.steps >= 0):
            raise BadRecipe(
                f"Temperatures must be positive and steps at least 0, got start={self.start}, end={self.end}, "
                f"steps={self.steps}."
            )

    def __call__(self, step: int) -> float:
        """The temperature at an optimiser step, from 0."""
        if step >= self.steps:
            return self.end
        return math.exp(math.log(self.start) + step / self.steps * (math.log(self.end) - math.log(self.start)))
