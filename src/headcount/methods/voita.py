"""Hard concrete gates with an L0 penalty, whose weight lambda controls how many heads stay."""

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from headcount.anatomy import present
from headcount.errors import BadRecipe
from headcount.gates.relaxations import HardConcrete
from headcount.methods.facts import Length, Steps
from headcount.methods.joint import ScoreOptions, learn
from headcount.settings.schema import Count, NotNegative, Positive, Rest, Share
from headcount.settings.training import Stage
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from headcount.units.map import Subset


@dataclass(frozen=True)
class Voita(ScoreOptions):
    """Hard concrete gates with an L0 penalty (Voita et al. 2019), in joint training (Li et al. 2021, section 4.2.3).

    The open gates are counted without noise. The count is then adjusted to K by ranking log alpha.

    Attributes:
        lambda_: Weight of the expected number of open gates, relative to the mean loss over examples (`lambda` in
            recipes): a number, or `auto`, which trains with several weights until the count is K.
        tries: Trainings of that search, at most. The training with the count nearest to K is taken.
        tolerance: Largest difference from K that the search may leave for adjustment, as a share of competing heads.
        scores_lr: Peak learning rate of log alpha (Li et al.: 0.1 for BERT).
        open_above: A gate counts as open if its value without noise is above this. Voita et al. use 0, Li et al. 0.5.
    """

    dynamics: ClassVar[frozenset[str]] = frozenset({"open", "expected_open"})
    paradigm: ClassVar[str] = "joint"
    lambda_: NotNegative | Literal["auto"] = "auto"
    tries: Count = 8
    tolerance: Share = 0.1
    scores_lr: Positive = 0.1
    open_above: Rest = 0.0

    def relaxation(self, keep: int | float, steps: int) -> HardConcrete:
        """Return the gates. They do not depend on the length of the training.

        Raises:
            BadRecipe: Lambda is `auto`, which takes several trainings.
        """
        if isinstance(self.lambda_, str):
            raise BadRecipe("A search over lambda takes several trainings. Give lambda as a number.")
        return self._gates(keep, self.lambda_)

    def _gates(self, keep: int | float, weight: float) -> HardConcrete:
        return HardConcrete(
            keep, weight, lr=self.scores_lr, clip=self.scores_clip, schedule=self.scores_schedule,
            open_above=self.open_above,
        )  # fmt: skip

    def steps(self, length: Length) -> Steps:
        """Return the steps of the training. A search over lambda counts all its tries, at most."""
        return Steps(length.total * (self.tries if isinstance(self.lambda_, str) else 1))

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Train with one lambda or several, and return the top K of log alpha."""
        candidates, keep = budget.resolve(present(bench.model))
        if not isinstance(self.lambda_, str):
            subset, alive = self._train(bench, budget, self.lambda_, Stage())
            bench.notes["voita"] = {"lambda": self.lambda_, "open": alive, "adjusted": abs(alive - keep)}
            return subset
        start = bench.model
        path: list[tuple[float, int]] = []
        best: tuple[int, str, Any, Subset] | None = None
        while len(path) < self.tries and (best is None or best[0] > 0):
            weight, name = next_lambda(path, keep), f"lambda-{len(path) + 1}"
            bench.model = copy.deepcopy(start)
            subset, alive = self._train(bench, budget, weight, Stage(name, name))
            path.append((weight, alive))
            if best is None or abs(alive - keep) <= best[0]:  # a tie takes the later training of the search
                best = abs(alive - keep), name, bench.model, subset
        assert best is not None
        off, chosen, bench.model, subset = best
        for number in range(len(path)):
            bench.rebook(f"lambda-{number + 1}", "training" if chosen == f"lambda-{number + 1}" else "selection")
        weight, alive = path[int(chosen.rpartition("-")[2]) - 1]
        shown = [{"lambda": each, "open": count} for each, count in path]
        bench.notes["voita"] = {"lambda": weight, "open": alive, "adjusted": off, "path": shown}
        if off > self.tolerance * len(candidates):
            raise BadRecipe(
                f"No lambda among {len(path)} left near {keep} of {len(candidates)} heads: "
                f"{', '.join(f'{each:.2g} left {count}' for each, count in sorted(path))}. Into another "
                f"output, give lambda={weight:.2g} to take that and adjust by rank, or allow more: tries, tolerance, "
                "epochs."
            )
        return subset

    def _train(self, bench: Workbench, budget: Budget, weight: float, stage: Stage) -> tuple[Subset, int]:
        relaxation = self._gates(budget.keep, weight)
        gates = learn(bench, budget, relaxation, stage)
        return gates.subset(), relaxation.alive(gates.scores) * (len(gates.candidates) // max(1, len(gates.units)))


def next_lambda(path: list[tuple[float, int]], keep: int) -> float:
    """Return the next lambda: interpolated between the nearest counts above and below K, or extrapolated."""
    low = max((each for each in path if each[1] > keep), default=None)
    high = min((each for each in path if each[1] < keep), default=None)
    if low is None and high is None:
        return 0.0015
    if high is None and low is not None:
        return low[0] * 4
    if low is None and high is not None:
        return high[0] / 4
    assert low is not None and high is not None
    # The count is about linear in log lambda. Stay away from both ends, whose counts may be chance.
    share = min(0.9, max(0.1, (low[1] - keep) / (low[1] - high[1])))
    return float(low[0] ** (1 - share) * high[0] ** share)
