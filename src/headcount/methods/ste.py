"""The straight-through estimator, with hard top-K gates from the first step."""

from dataclasses import dataclass
from typing import ClassVar

from headcount.gates.relaxations import StraightThrough
from headcount.methods.joint import ScoreOptions, learn
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from headcount.units.map import Subset


@dataclass(frozen=True)
class STE(ScoreOptions):
    """Straight-through top-K gates without noise or temperature (Li et al. 2021, section 4.2.2).

    All heads get gradients. The scores learn as in joint DSP.
    """

    paradigm: ClassVar[str] = "joint"

    def relaxation(self, keep: int | float, steps: int) -> StraightThrough:
        """Return the gates. They do not depend on the length of the training."""
        return StraightThrough(keep, self.scores_lr, self.scores_clip, self.scores_schedule)

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Train weights and scores together, and return the top K of the final scores."""
        return learn(bench, budget, self.relaxation(budget.keep, bench.steps)).subset()
