"""What every method says of itself: facts in place of its name, and how many optimiser steps a run takes."""

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
    """How long a run is, known from its recipe alone.

    Attributes:
        total: Optimiser steps of the training.
        epoch: Optimiser steps of one pass over the training data.
        heads: Heads that compete.
        kept: How many of them stay.
        sites: Sites that these heads are in.
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
        own: Steps of this run alone; of a search, those of all its tries.
        shared: Steps of the first stage, which runs of one beginning share.
        stage: What that stage ends with; empty if there is none.
    """

    own: int
    shared: int = 0
    stage: str = ""


@dataclass(frozen=True)
class Method(ABC):
    """What every method is: it chooses the heads that stay. Its fields are its hyper-parameters.

    The class variables are facts. What a method needs is told for its default options, and for the choice alone.
    """

    paradigm: ClassVar[str]
    """`joint`: weights and subset are learned together. `pipelined`: a trained model first, then the subset."""
    ignores_budget: ClassVar[bool] = False
    """Whether it keeps every head, whatever the budget."""
    learns_by_gates: ClassVar[bool] = False
    """Whether gates learn which heads stay; `relaxation` makes them."""
    dynamics: ClassVar[frozenset[str]] = frozenset()
    """What a look at its gates says beside what `Gates.watch` says of all gates."""
    needs_labels: ClassVar[bool] = False
    """Whether its choice depends on labels."""
    needs_gradients: ClassVar[bool] = False
    """Whether its choice depends on gradients."""
    needs_held_out: ClassVar[bool] = False
    """Whether its choice depends on examples that nothing is trained on."""

    @abstractmethod
    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Train, score and choose. Leaves the trained model on the workbench; gives all heads that stay."""

    def relaxation(self, keep: int | float, steps: int) -> Relaxation:
        """The gates for a training of so many optimiser steps.

        Raises:
            BadRecipe: The method does not learn by gates, or not with these options in one training.
        """
        raise BadRecipe(f"{type(self).__name__} does not learn by gates.")

    def steps(self, length: Length) -> Steps:
        """How many optimiser steps a run takes; here those of the training, which pipelined methods share."""
        return Steps(length.total) if self.paradigm == "joint" else Steps(0, length.total, "training")
