"""Greedy removal of a trained model's heads by gradient importance."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from headcount.anatomy import present
from headcount.importance import GradientImportance, ranking
from headcount.methods.facts import Length, Method, Steps
from headcount.methods.removal import remove_lowest
from headcount.settings.schema import Count, check_settings
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from headcount.units.map import Subset


@dataclass(frozen=True)
class Michel(Method):
    """Remove the least important heads, score again, repeat (Michel et al. 2019; Li et al. 2021, section 4.2.1).

    Attributes:
        heads_per_step: Heads removed before the rest is scored again. None: a twelfth of the heads (paper: 12 of 144).
        one_shot: Score once and remove all heads at once, as in Michel et al.'s translation code.
        examples: Number of training examples for each scoring. None: all, as in the paper.
        reduction: Scope of each gradient whose absolute value is averaged.
        signed: Average the gradients without taking absolute values.
        layer_norm: Divide the scores of each site by their L2 norm.
    """

    needs_labels: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = True
    paradigm: ClassVar[str] = "pipelined"
    heads_per_step: Count | None = None
    one_shot: bool = False
    examples: Count | None = None
    reduction: Literal["example", "token", "batch"] = "example"
    signed: bool = False
    layer_norm: bool = True

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def importance(self) -> GradientImportance:
        """The importance that heads are ranked by."""
        return GradientImportance(self.reduction, self.signed, self.layer_norm)

    def steps(self, length: Length) -> Steps:
        """Return the steps of the scorings: a pass each over all training examples, or 0 if `examples` is set."""
        removed = self.heads_per_step or max(1, length.heads // 12)
        scorings = math.ceil((length.heads - length.kept) / removed)
        return Steps(scorings * (length.epoch if self.examples is None else 0), length.total, "training")

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Train if necessary; then remove heads step by step. The weights stay as trained."""
        bench.train_if_needed()
        left, keep = budget.resolve(present(bench.model))
        always = present(bench.model) - left
        step = self.heads_per_step or max(1, len(left) // 12)
        scorings = 0
        with bench.booked("selection"):
            while len(left) > keep:
                scores = ranking(self.importance, bench.model, bench.batches(self.examples), left | always, left)
                goes = len(left) - keep if self.one_shot else step
                left = remove_lowest(left, scores, keep, goes, budget.unit)
                scorings += 1
                bench.dynamics.append({"scoring": scorings, "heads": str(left | always), "kept": list(left.indices)})
        bench.notes["scorings"] = scorings
        return left | always
