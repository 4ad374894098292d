"""The base class of all methods: facts about the method, and how many optimiser steps its runs take."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from headcount.errors import BadRecipe
from headcount.gates.relaxations.learned import Relaxation
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from headcount.units.map import Subset


@dataclass(frozen=True)
class Length:
    """The length of a run, computed from its recipe alone.

    Attributes:
        total: Optimiser steps of the training.
        epoch: Optimiser steps of one pass over the training data.
        heads: Heads that compete.
        kept: Number of competing heads that stay.
        sites: Sites that have competing heads.
    """

    total: int
    epoch: int
    heads: int
    kept: int
    sites: int


@dataclass(frozen=True)
class Steps:
    """Optimiser steps of a run.

    Attributes:
        own: Steps of this run alone. A search counts the steps of all its tries.
        shared: Steps of the first stage, which several runs share.
        stage: Name of the shared stage. Empty if there is none.
    """

    own: int
    shared: int = 0
    stage: str = ""


@dataclass(frozen=True)
class Method(ABC):
    """A method that chooses the heads that stay. Its fields are its hyper-parameters.

    The class variables are facts. `needs_...` hold for the default options, and for the choice of heads alone.
    """

    paradigm: ClassVar[str]
    """`joint`: weights and subset are learned together. `pipelined`: the subset is chosen from a trained model."""
    ignores_budget: ClassVar[bool] = False
    """Whether the method keeps every head, whatever the budget."""
    learns_by_gates: ClassVar[bool] = False
    """Whether gates learn which heads stay. `relaxation` makes the gates."""
    dynamics: ClassVar[frozenset[str]] = frozenset()
    """Keys that its gates add to those of `Gates.watch` at each evaluation."""
    needs_labels: ClassVar[bool] = False
    """Whether the choice of heads depends on labels."""
    needs_gradients: ClassVar[bool] = False
    """Whether the choice of heads depends on gradients."""
    needs_held_out: ClassVar[bool] = False
    """Whether the choice of heads depends on held-out examples."""

    @abstractmethod
    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Train, score and choose. Leave the trained model on the workbench, and return all heads that stay."""

    def relaxation(self, keep: int | float, steps: int) -> Relaxation:
        """Return the gates for a training of so many optimiser steps.

        Raises:
            BadRecipe: The method does not learn by gates, or its options need more than one training.
        """
        raise BadRecipe(f"{type(self).__name__} does not learn by gates.")

    def steps(self, length: Length) -> Steps:
        """Return how many optimiser steps a run takes: here those of the training, which pipelined methods share."""
        return Steps(length.total) if self.paradigm == "joint" else Steps(0, length.total, "training")
