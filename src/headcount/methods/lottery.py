"""The lottery ticket: remove the least confident heads a few at a time, each time rewinding to early training."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from headcount.anatomy import present
from headcount.budget import Budget
from headcount.errors import BadRecipe
from headcount.heads import Subset
from headcount.importance import importance
from headcount.methods.removal import remove_lowest
from headcount.settings import Stage, steps_from
from headcount.surgery import remove_heads
from headcount.training import Workbench

CHOICES = {
    "optimiser_state": ("fresh", "kept"),
    "schedule": ("continue", "restart"),
    "data_order": ("new", "same", "onward"),
}


@dataclass(frozen=True)
class Lottery:
    """Behnke and Heafield 2020, section 3.

    Train to a late-resetting point; then, again and again, train a little, score the heads on the development set,
    remove the lowest few, and rewind the others to that point; at the end train the survivors from there to the end of
    the schedule. For a pretrained model the training is its fine-tuning, so the point is an early step of that.

    Attributes:
        late_reset: The point: a share of the training's steps (a float; the paper's 25,000 of 475,000), or a step.
        iteration: Steps of each little training, likewise (15,000 of 475,000).
        heads_per_iteration: Heads removed each time. None: one for every two sites, the paper's rule of thumb.
        max_per_site: Remove at most this many of a site each time. None, as the text has it, or 1, as all the published
            tables have it.
        importance: What heads are ranked by: a name in `IMPORTANCES`.
        optimiser_state: After rewinding, Adam starts `fresh`, or with what it knew at that point (`kept`).
        schedule: After rewinding, the learning rate goes on from that point (`continue`), or the schedule starts anew
            (`restart`).
        data_order: Each iteration sees the data in a `new` order (section 7 of the paper), in the `same` as from the
            start of training, or `onward` from that point (footnote 1: order retained).
    """

    paradigm: ClassVar[str] = "joint"
    late_reset: float | int = 0.05
    iteration: float | int = 0.03
    heads_per_iteration: int | None = None
    max_per_site: int | None = None
    importance: str = "confidence"
    optimiser_state: str = "fresh"
    schedule: str = "continue"
    data_order: str = "new"

    def __post_init__(self) -> None:
        importance(self.importance)
        for name, valid in CHOICES.items():
            if getattr(self, name) not in valid:
                raise BadRecipe(f"Got {name} '{getattr(self, name)}'. Valid choices: {', '.join(valid)}.")
        for name in ("heads_per_iteration", "max_per_site"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise BadRecipe(f"'{name}' must be at least 1, got {value}.")

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Find the ticket, and train it to the end; the model on the workbench loses its heads on the way."""
        late = steps_from(self.late_reset, bench.steps, "late_reset")
        steps = steps_from(self.iteration, bench.steps - late, "iteration")
        first = late if self.schedule == "continue" else 0
        here = present(bench.model)
        left, keep = budget.resolve(here)
        always, head_map = here - left, here.head_map
        if len(left) > keep:
            bench.development_batches()  # too few examples are better known before the training
        moments = bench.train(
            stage=Stage("late", steps=late, keeps_moments=self.optimiser_state == "kept", shared=True)
        )
        ticket, number = bench.model, 0
        while len(left) > keep:
            number += 1
            stage = Stage(
                f"iteration-{number}", "selection", steps, first, bench.steps,
                order=number if self.data_order == "new" else 0, skip=late if self.data_order == "onward" else 0,
            )  # fmt: skip

            def work(left: Subset = left, stage: Stage = stage) -> list[int]:
                adam = rewind(bench, ticket, left | always, moments)
                bench.train(stage=stage, moments=adam)
                return list(self._without_lowest(bench, budget, left, always, keep).indices)

            left = Subset(head_map, tuple(bench.once(stage.name, work)))
            bench.forget(stage.name)
        adam = rewind(bench, ticket, left | always, moments)
        end = Stage(
            steps=bench.steps - late, first=first, total=bench.steps,
            order=number + 1 if self.data_order == "new" else 0, skip=late if self.data_order == "onward" else 0,
        )  # fmt: skip
        bench.train(stage=end, moments=adam)
        bench.notes["iterations"] = number
        return left | always

    def _without_lowest(self, bench: Workbench, budget: Budget, left: Subset, always: Subset, keep: int) -> Subset:
        heads = present(bench.model)
        with bench.booked("selection"):
            scores = importance(self.importance, bench.seed).scores(bench.model, bench.development_batches(), heads)
        of_head = dict(zip(heads.indices, scores.tolist(), strict=True))
        step = self.heads_per_iteration or max(1, len(heads.head_map.sites) // 2)
        ranking = [of_head[index] for index in left.indices]
        left = remove_lowest(left, ranking, keep, step, budget.unit, self.max_per_site)
        bench.dynamics.append({"stage": "scoring", "heads": str(left | always), "kept": list(left.indices)})
        return left


def rewind(
    bench: Workbench, ticket: Any, subset: Subset, moments: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, dict[str, Tensor]]:
    """Put the model as it was at the late-resetting point on the workbench, with these heads only.

    Returns:
        What Adam knew there of the weights that are left.
    """
    bench.model = remove_heads(copy.deepcopy(ticket), subset)
    cut: dict[str, dict[str, Tensor]] = {name: {"step": state["step"]} for name, state in moments.items()}
    for key in ("exp_avg", "exp_avg_sq") if moments else ():
        # The moments of a weight lose what the weight loses: they are put in its place and cut.
        holder = copy.deepcopy(ticket)
        for name, parameter in holder.named_parameters():
            parameter.data = moments[name][key].clone() if name in moments else parameter.data
        for name, parameter in remove_heads(holder, subset, check=False).named_parameters():
            if name in moments:
                cut[name][key] = parameter.data
    return cut
