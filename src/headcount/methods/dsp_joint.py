"""Joint differentiable subset pruning: weights and subset learned in one training."""

from dataclasses import dataclass
from typing import ClassVar

from headcount.budget import Budget
from headcount.errors import BadRecipe
from headcount.gating import attach, detach
from headcount.heads import Subset
from headcount.relaxations import GumbelTopK, LogLinear
from headcount.training import Workbench


@dataclass(frozen=True)
class DSPJoint:
    """Joint DSP (Li, Cotterell and Sachan 2021, section 3): Gumbel soft top-K gates, annealed to a hard subset.

    Attributes:
        temperature_start: Temperature at the first step (Table 2).
        temperature_end: Temperature once cool (Table 2).
        cooldown: Share of the training steps in which the temperature falls: 25,000 of the paper's 36,816 for BERT.
        scores_lr: Peak learning rate of the scores (Table 2).
        scores_clip: Bound on the absolute value of each score's gradient.
    """

    paradigm: ClassVar[str] = "joint"
    temperature_start: float = 1000.0
    temperature_end: float = 1e-8
    cooldown: float = 0.68
    scores_lr: float = 0.5
    scores_clip: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.cooldown <= 1:
            raise BadRecipe(f"'cooldown' is a share of the training steps, from 0 to 1; got {self.cooldown}.")

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Train weights and scores together; the subset is the top K of the scores at the end."""
        cooling = LogLinear(self.temperature_start, self.temperature_end, round(self.cooldown * bench.steps))
        relaxation = GumbelTopK(budget.keep, cooling, lr=self.scores_lr, clip=self.scores_clip)
        gates = attach(bench.model, relaxation, sites=budget.sites, unit=budget.unit, seed=bench.seed)
        bench.train(gates)
        detach(bench.model)
        return gates.subset()
