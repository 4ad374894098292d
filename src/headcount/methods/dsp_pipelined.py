"""Pipelined differentiable subset pruning: gates on a trained model with frozen weights."""

import math
from dataclasses import dataclass
from typing import ClassVar

from headcount.gates.relaxations import GumbelTopK, LogLinear
from headcount.methods.facts import Length, Steps
from headcount.methods.joint import ScoreOptions, learn
from headcount.settings.schema import Positive, ShareOrSteps
from headcount.settings.training import Stage, steps_from
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from headcount.units.map import Subset


@dataclass(frozen=True)
class DSPPipelined(ScoreOptions):
    """Pipelined DSP (Li, Cotterell and Sachan 2021, section 3.3): gates learn while the weights are frozen.

    The model stays in training mode, with dropout, as in the authors' code.

    Attributes:
        epochs: Passes over the training data for the gates.
        temperature_start: Temperature at the first step (Table 2).
        temperature_end: Temperature after the cooldown (Table 2).
        cooldown: Steps in which the temperature falls: a share of the gates' steps (a float), or their number (an
            int). The default is 8,333 of the authors' 12,272 for BERT. For translation they use 250 of about 1,100.
    """

    dynamics: ClassVar[frozenset[str]] = frozenset({"temperature"})
    paradigm: ClassVar[str] = "pipelined"
    epochs: Positive = 1.0
    temperature_start: Positive = 1000.0
    temperature_end: Positive = 1e-8
    cooldown: ShareOrSteps = 0.68

    def relaxation(self, keep: int | float, steps: int) -> GumbelTopK:
        """Return the gates for so many steps."""
        cooling = steps_from(self.cooldown, steps, "cooldown")
        annealing = LogLinear(self.temperature_start, self.temperature_end, cooling)
        return GumbelTopK(keep, annealing, self.scores_lr, self.scores_clip, schedule=self.scores_schedule)

    def steps(self, length: Length) -> Steps:
        """Return the steps of the gates. The training before them is shared."""
        return Steps(math.ceil(self.epochs * length.epoch), length.total, "training")

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Train if necessary; then learn which heads stay."""
        steps = bench.steps_of(self.epochs)
        relaxation = self.relaxation(budget.keep, steps)
        bench.train_if_needed()
        stage = Stage("gates", "selection", steps, total=steps, frozen=True, order=1)
        return learn(bench, budget, relaxation, stage).subset()
