"""The unpruned baseline."""

from dataclasses import dataclass
from typing import ClassVar

from headcount.anatomy import present
from headcount.methods.facts import Method
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from headcount.units.map import Subset


@dataclass(frozen=True)
class Unpruned(Method):
    """A baseline: the model trained with all its heads (Li et al. 2021, section 4.2.4). It ignores the budget."""

    ignores_budget: ClassVar[bool] = True
    paradigm: ClassVar[str] = "pipelined"

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Train if necessary, and keep every head."""
        bench.train_if_needed()
        return present(bench.model)
