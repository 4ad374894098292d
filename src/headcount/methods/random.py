"""The baseline that keeps heads drawn at random."""

import statistics
from dataclasses import dataclass
from typing import ClassVar, Literal

from headcount.anatomy import present
from headcount.gates.hooks import masked
from headcount.importance import RandomImportance
from headcount.methods.facts import Method
from headcount.settings.schema import Count, check_settings
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from headcount.units.choice import top
from headcount.units.map import Subset


@dataclass(frozen=True)
class Random(Method):
    """A baseline: draw several random subsets of the trained model's heads, and keep the median on development data.

    Attributes:
        draws: Number of subsets to draw. With several, the record has the figure of each, and their mean and deviation.
        choose: `median` takes the subset with the median figure. `best` takes the best subset (random search).
    """

    needs_labels: ClassVar[bool] = True
    needs_held_out: ClassVar[bool] = True
    paradigm: ClassVar[str] = "pipelined"
    draws: Count = 10
    choose: Literal["median", "best"] = "median"

    def __post_init__(self) -> None:
        check_settings(self)

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Train if necessary; then draw. The weights stay as trained."""
        if self.draws > 1:
            bench.development_batches()  # fail before the training if there are too few examples
        bench.train_if_needed()
        here = present(bench.model)
        candidates, keep = budget.resolve(here)
        with bench.booked("selection"):
            drawn = []
            for number in range(self.draws):
                scores = RandomImportance(1000 * bench.seed + number).scores(bench.model, [], candidates)
                drawn.append(top(candidates, scores.tolist(), keep, budget.unit) | (here - candidates))
            if len(drawn) == 1:
                return drawn[0]
            figures = [self._figure(bench, subset) for subset in drawn]
        bench.notes["draws"] = {
            "figures": figures, "mean": statistics.fmean(figures), "deviation": statistics.pstdev(figures)
        }  # fmt: skip
        ranking = sorted(range(len(drawn)), key=figures.__getitem__)
        return drawn[ranking[-1 if self.choose == "best" else len(drawn) // 2]]

    @staticmethod
    def _figure(bench: Workbench, subset: Subset) -> float:
        """Return the task's first figure on development examples, with these heads only."""
        assert bench.measure is not None
        with masked(bench.model, subset):
            return next(iter(bench.measure(bench.model).values()))
