"""Heads drawn at random stay."""

import statistics
from dataclasses import dataclass
from typing import ClassVar

from headcount.anatomy import present
from headcount.budget import Budget, top
from headcount.errors import BadRecipe
from headcount.gating import masked
from headcount.heads import Subset
from headcount.importance import RandomImportance
from headcount.training import Workbench


@dataclass(frozen=True)
class Random:
    """A baseline: of several random subsets of the trained model's heads, the median by development figures.

    Attributes:
        draws: How many subsets to draw. The record has the figures of each, and of all of them mean and deviation.
        choose: `median`: neither a lucky nor an unlucky draw. `best`: random search.
    """

    paradigm: ClassVar[str] = "pipelined"
    draws: int = 10
    choose: str = "median"

    def __post_init__(self) -> None:
        if self.draws < 1 or self.choose not in ("median", "best"):
            raise BadRecipe(
                f"'draws' must be at least 1 and 'choose' one of median, best; got {self.draws} and '{self.choose}'."
            )

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Train if need be; then draw. The weights stay as trained."""
        bench.train_if_needed()
        here = present(bench.model)
        candidates, keep = budget.resolve(here)
        drawn = []
        with bench.booked("selection"):
            for number in range(self.draws):
                scores = RandomImportance(1000 * bench.seed + number).scores(bench.model, [], candidates)
                subset = top(candidates, scores.tolist(), keep, budget.unit) | (here - candidates)
                drawn.append((self._figure(bench, subset) if self.draws > 1 else 0.0, subset))
        figures = [figure for figure, _ in drawn]
        bench.notes["draws"] = {
            "figures": figures, "mean": statistics.fmean(figures), "deviation": statistics.pstdev(figures)
        }  # fmt: skip
        drawn.sort(key=lambda each: each[0])
        return drawn[-1 if self.choose == "best" else len(drawn) // 2][1]

    @staticmethod
    def _figure(bench: Workbench, subset: Subset) -> float:
        """The task's first figure on development examples, with these heads only; 0 if there are no examples."""
        if bench.measure is None:
            return 0.0
        with masked(bench.model, subset):
            return next(iter(bench.measure(bench.model).values()))
