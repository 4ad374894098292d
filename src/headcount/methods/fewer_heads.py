"""The baseline that trains a model with fewer heads from the start."""

from dataclasses import dataclass
from typing import ClassVar

from headcount.anatomy import present
from headcount.methods.facts import Method
from headcount.surgery.cut import remove_heads
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from headcount.units.choice import spread
from headcount.units.map import Subset


@dataclass(frozen=True)
class FewerHeads(Method):
    """A baseline: K heads spread evenly over the sites before training (Behnke and Heafield 2020, Tables 1 and 7).

    Every site keeps its first heads, with the given model's weights. The remainder of the even division goes to the
    first sites. The size of a head does not change.
    """

    paradigm: ClassVar[str] = "joint"

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Remove heads, then train."""
        here = present(bench.model)
        candidates, keep = budget.resolve(here)
        subset = spread(candidates, keep, budget.unit) | (here - candidates)
        remove_heads(bench.model, subset)
        bench.train()
        return subset
