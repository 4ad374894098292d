"""Joint differentiable subset pruning: one training learns weights and subset."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from headcount.anatomy import present
from headcount.errors import BadRecipe
from headcount.gates.relaxations import GumbelTopK, LogLinear
from headcount.importance import importance, ranking
from headcount.methods.joint import ScoreOptions, learn
from headcount.settings.schema import Positive, ShareOrSteps
from headcount.settings.training import steps_from
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from headcount.units.map import Subset


@dataclass(frozen=True)
class DSPJoint(ScoreOptions):
    """Joint DSP (Li, Cotterell and Sachan 2021, section 3): Gumbel soft top-K gates, annealed to a hard subset.

    Attributes:
        temperature_start: Temperature at the first step (Table 2).
        temperature_end: Temperature after the cooldown (Table 2).
        cooldown: Steps in which the temperature falls: a share of the steps after `unpruned` (a float), or their number
            (an int). 1 is one step; 1.0 is all steps. The default is 25,000 of the paper's 36,816 steps for BERT.
        unpruned: Steps before the cooldown, as a share or number. The model trains with all heads. Not in the paper.
        cooling_noise: Gumbel noise shrinks with the temperature when that is below 1. Not in the paper.
        mean_one: Soft gates are scaled to start at one, not at K/H. Not in the paper.
        start_from: An importance whose standardised scores initialise the learned scores. Not in the paper.
        start_spread: Standard deviation of these initial scores.
    """

    dynamics: ClassVar[frozenset[str]] = frozenset({"temperature"})
    paradigm: ClassVar[str] = "joint"
    temperature_start: Positive = 1000.0
    temperature_end: Positive = 1e-8
    cooldown: ShareOrSteps = 0.68
    unpruned: ShareOrSteps = 0.0
    cooling_noise: bool = False
    mean_one: bool = False
    start_from: str | None = None
    start_spread: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._gates(0, 10**9)
        if self.start_from is not None:
            importance(self.start_from)

    def relaxation(self, keep: int | float, steps: int) -> GumbelTopK:
        """Return the gates for a training of so many steps.

        Raises:
            BadRecipe: `start_from` is set. An importance needs held-out examples, which one training does not have.
        """
        if self.start_from is not None:
            raise BadRecipe(
                f"Scores that start from an importance ('{self.start_from}') need examples that are held out: "
                "headcount.run_recipe, or headcount prune, has them. Leave start_from out here."
            )
        return self._gates(keep, steps)

    def _gates(self, keep: int | float, steps: int) -> GumbelTopK:
        wait = steps_from(self.unpruned, steps, "unpruned")
        left = f"of the training's {steps} steps 'unpruned' leaves" if wait else "the training has"
        cooling = steps_from(self.cooldown, steps - wait, "cooldown", left)
        annealing = LogLinear(self.temperature_start, self.temperature_end, cooling, wait)
        return GumbelTopK(
            keep, annealing, self.scores_lr, self.scores_clip, self.cooling_noise, self.mean_one, self.scores_schedule
        )

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Train weights and scores together, and return the top K of the final scores."""
        relaxation, start = self._gates(budget.keep, bench.steps), None
        if self.start_from is not None:
            heads = present(bench.model)
            candidates, _ = budget.resolve(heads)
            with bench.booked("selection"):
                ranks = importance(self.start_from, bench.seed)
                scores = ranking(ranks, bench.model, bench.batches_for(ranks), heads, candidates)
            found = torch.tensor(scores, dtype=torch.float64)
            start = self.start_spread * (found - found.mean()) / found.std(correction=0).clamp_min(1e-12)
        return learn(bench, budget, relaxation, start=start).subset()
