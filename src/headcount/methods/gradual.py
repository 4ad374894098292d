"""Gradual removal of heads during training. Neither paper has this method."""

from dataclasses import dataclass
from typing import ClassVar

from headcount.errors import BadRecipe
from headcount.gates.relaxations import Fading
from headcount.methods.joint import LearnsByGates, learn
from headcount.settings.schema import Rest, ShareOrSteps, check_settings
from headcount.settings.training import steps_from
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from headcount.units.map import Subset


@dataclass(frozen=True)
class Gradual(LearnsByGates):
    """Remove the least important heads during training, on the cubic schedule of Zhu and Gupta 2017.

    The importance is a running mean of |dL/dgate| from the training's own backward passes. Selection costs nothing.

    Attributes:
        first: Step at which removal begins: a share of the steps (a float), or a step (an int).
        last: Step at which only K heads are left: likewise a share or a step.
        layer_norm: Divide the importances of each site by their L2 norm before ranking.
        memory: Decay of the running mean per step.
    """

    dynamics: ClassVar[frozenset[str]] = frozenset({"left"})
    paradigm: ClassVar[str] = "joint"
    first: ShareOrSteps = 0.1
    last: ShareOrSteps = 0.6
    layer_norm: bool = False
    memory: Rest = 0.95

    def __post_init__(self) -> None:
        check_settings(self)
        if type(self.first) is type(self.last) and self.first > self.last:
            raise BadRecipe(f"Heads cannot leave from {self.first} to {self.last}: 'last' must not be before 'first'.")

    def relaxation(self, keep: int | float, steps: int) -> Fading:
        """Return the gates for a training of so many steps."""
        first, last = steps_from(self.first, steps, "first"), steps_from(self.last, steps, "last")
        return Fading(keep, first, last, self.layer_norm, self.memory)

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Remove heads while training, and return the heads left at the end."""
        return learn(bench, budget, self.relaxation(budget.keep, bench.steps)).subset()
