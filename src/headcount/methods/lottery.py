"""The lottery ticket: remove the least confident heads a few at a time, and rewind the rest each time."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import Any, ClassVar, Literal

from torch import Tensor

from headcount.anatomy import present
from headcount.importance import importance, ranking
from headcount.methods.facts import Length, Method, Steps
from headcount.methods.removal import remove_lowest
from headcount.methods.rewinding import rewind
from headcount.settings.schema import Count, ShareOrSteps, check_settings
from headcount.settings.training import Stage, steps_from
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from headcount.units.map import Subset


@dataclass(frozen=True)
class Ticket:
    """The result of a lottery.

    Attributes:
        subset: The heads that are left.
        model: The model at the late-resetting point, with all of its heads.
        late: The step of that point.
        moments: Adam's state at that point, if it is kept.
        iterations: Number of iterations of training and removal.
    """

    subset: Subset
    model: Any
    late: int
    moments: Mapping[str, Mapping[str, Tensor]]
    iterations: int


@dataclass(frozen=True)
class Lottery(Method):
    """The lottery (Behnke and Heafield 2020, section 3): remove the least confident heads, rewind the rest, repeat.

    Train to a late-resetting point. Each iteration then trains a little, scores the heads on the development set,
    removes the lowest heads, and rewinds the others to that point. At the end, train the remaining heads from there to
    the end of the schedule. For a pretrained model the training is fine-tuning, so the point is an early step of it.

    Attributes:
        late_reset: Late-resetting point: a share of the training's steps (a float), or a step (an int). The paper's is
            step 25,000 of 475,000.
        iteration: Steps of each iteration, as a share or number. The paper's are 15,000 of 475,000.
        heads_per_iteration: Heads removed in each iteration. None: one for every two sites with competing heads, the
            paper's rule of thumb.
        max_per_site: Units removed from a site in each iteration, at most. None: no limit, as in the paper's text. The
            published tables use 1.
        importance: Importance that ranks the heads: a name in `IMPORTANCES`.
        optimiser_state: After rewinding, Adam starts `fresh`, or with its state at that point (`kept`).
        schedule: After rewinding, the learning rate continues from that point (`continue`) or restarts (`restart`).
        data_order: Each iteration takes the data in a `new` order (section 7), in the `same` order as the start of
            training, or `onward` from that point (footnote 1: order retained).
    """

    needs_held_out: ClassVar[bool] = True
    paradigm: ClassVar[str] = "joint"
    late_reset: ShareOrSteps = 0.05
    iteration: ShareOrSteps = 0.03
    heads_per_iteration: Count | None = None
    max_per_site: Count | None = None
    importance: str = "confidence"
    optimiser_state: Literal["fresh", "kept"] = "fresh"
    schedule: Literal["continue", "restart"] = "continue"
    data_order: Literal["new", "same", "onward"] = "new"

    def __post_init__(self) -> None:
        check_settings(self)
        importance(self.importance)

    def steps(self, length: Length) -> Steps:
        """Return the steps of the iterations and the last stage. The steps to the late-resetting point are shared."""
        late = steps_from(self.late_reset, length.total, "late_reset")
        iteration = steps_from(self.iteration, length.total, "iteration")
        removed = self.heads_per_iteration or max(1, length.sites // 2)
        iterations = ceil((length.heads - length.kept) / removed)
        return Steps(iterations * iteration + length.total - late, late, "late")

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Find the ticket, and train it to the end. The model on the workbench loses its other heads."""
        ticket = self.find(bench, budget)
        adam = rewind(bench, ticket.model, ticket.subset, ticket.moments)
        bench.train(stage=self.stage_of(bench, ticket.late, ticket.iterations + 1), moments=adam)
        bench.notes["iterations"] = ticket.iterations
        return ticket.subset

    def find(self, bench: Workbench, budget: Budget) -> Ticket:
        """Train to the late-resetting point; then iterate training, removal and rewinding down to the budget."""
        late = steps_from(self.late_reset, bench.steps, "late_reset")
        steps = steps_from(self.iteration, bench.steps, "iteration")
        steps_from(steps, bench.steps - late, "iteration", f"of the training's {bench.steps} steps 'late_reset' leaves")
        here = present(bench.model)
        left, keep = budget.resolve(here)
        always, number = here - left, 0
        by = self.heads_per_iteration or max(1, sum(count > 0 for count in left.counts()) // 2)
        if len(left) > keep:  # fail before the training if there are too few examples or no attention weights
            self._scores(bench, left, first_batch=True)
        moments = bench.train(
            stage=Stage("late", steps=late, keeps_moments=self.optimiser_state == "kept", shared=True)
        )
        whole = bench.model
        while len(left) > keep:
            number += 1
            stage = self.stage_of(bench, late, number, steps)

            def work(left: Subset = left, stage: Stage = stage) -> list[int]:
                bench.train(stage=stage, moments=rewind(bench, whole, left | always, moments))
                with bench.booked("selection"):
                    scores = self._scores(bench, left)
                left = remove_lowest(left, scores, keep, by, budget.unit, self.max_per_site)
                bench.dynamics.append({"stage": "scoring", "heads": str(left | always), "kept": list(left.indices)})
                return list(left.indices)

            left = Subset(here.head_map, tuple(bench.once(stage.name, work)))
            bench.forget(stage.name)
        return Ticket(left | always, whole, late, moments, number)

    def stage_of(self, bench: Workbench, late: int, number: int, steps: int | None = None) -> Stage:
        """Return the stage of an iteration. Without `steps`, return the last stage, which takes the remaining steps."""
        order, skip = number if self.data_order == "new" else 0, late if self.data_order == "onward" else 0
        first = late if self.schedule == "continue" else 0
        if steps is None:
            return Stage(
                steps=bench.steps - late, first=first, total=bench.steps, order=order, skip=skip, last=True
            )  # fmt: skip
        return Stage(f"iteration-{number}", "selection", steps, first, bench.steps, order=order, skip=skip)

    def _scores(self, bench: Workbench, left: Subset, first_batch: bool = False) -> list[float]:
        """Return the score of each remaining head, in flat order."""
        ranks = importance(self.importance, bench.seed)
        batches = islice(bench.batches_for(ranks), 1 if first_batch else None)
        return ranking(ranks, bench.model, batches, present(bench.model), left)
