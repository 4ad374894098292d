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
        wait: Steps before that, in which all gates are one: the model trains unpruned. Not in the paper.
    """

    start: float = 1000.0
    end: float = 1e-8
    steps: int = 25_000
    wait: int = 0

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.end > 0):
            raise BadRecipe(f"Temperatures must be positive, got {self.start} at the start and {self.end} at the end.")
        if not (self.steps >= 0 and self.wait >= 0):
            raise BadRecipe(f"Steps must be at least 0, got {self.steps} of cooling and {self.wait} before.")

    def __call__(self, step: int) -> float:
        """The temperature at an optimiser step, from 0."""
        cooled = max(0, step - self.wait)
        if cooled >= self.steps:
            return self.end
        return math.exp(math.log(self.start) + cooled / self.steps * (math.log(self.end) - math.log(self.start)))
