"""The baseline that keeps the heads with the largest weights."""

from dataclasses import dataclass
from typing import ClassVar

from headcount.anatomy import present
from headcount.importance import importance
from headcount.methods.facts import Method
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from headcount.units.choice import top
from headcount.units.map import Subset


@dataclass(frozen=True)
class Magnitude(Method):
    """A baseline: keep the heads of the trained model whose weights have the largest L2 norm, ranked once."""

    paradigm: ClassVar[str] = "pipelined"

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Train if necessary; then rank. The weights stay as trained."""
        bench.train_if_needed()
        here = present(bench.model)
        candidates, keep = budget.resolve(here)
        with bench.booked("selection"):
            scores = importance("magnitude").scores(bench.model, [], candidates)
        return top(candidates, scores.tolist(), keep, budget.unit) | (here - candidates)
