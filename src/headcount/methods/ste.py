"""The straight-through estimator: hard top-K gates from the first step on."""

from dataclasses import dataclass
from typing import ClassVar

from headcount.gates.relaxations import StraightThrough
from headcount.methods.joint import ScoreOptions, learn
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from headcount.units.map import Subset


@dataclass(frozen=True)
class STE(ScoreOptions):
    """Straight-through top-K gates (Li et al. 2021, section 4.2.2): no noise, no temperature, all heads get gradients.

    Its scores learn as joint DSP's do.
    """

    paradigm: ClassVar[str] = "joint"

    def relaxation(self, keep: int | float, steps: int) -> StraightThrough:
        """The gates; the same for a training of any length."""
        return StraightThrough(keep, self.scores_lr, self.scores_clip, self.scores_schedule)

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Train weights and scores together; the subset is the top K of the scores at the end."""
        return learn(bench, budget, self.relaxation(budget.keep, bench.steps)).subset()
