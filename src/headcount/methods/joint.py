"""Options and training loop of the methods that learn a subset by gates."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from jaxtyping import Float64
from pydantic import Field
from torch import Tensor

from headcount.gates.relaxations.learned import Relaxation
from headcount.gates.trainable import Gates, attach, detach
from headcount.methods.facts import Method
from headcount.settings.schema import Positive, check_settings
from headcount.settings.training import Stage
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget


@dataclass(frozen=True)
class LearnsByGates(Method):
    """The facts of a method whose gates learn from the loss."""

    learns_by_gates: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = True


@dataclass(frozen=True)
class ScoreOptions(LearnsByGates):
    """The options of all methods that learn scores by gradient descent.

    Attributes:
        scores_lr: Peak learning rate of the scores (Li et al. 2021, Table 2).
        scores_clip: Bound on the absolute value of each score's gradient.
        scores_schedule: The scores' learning rate follows the model's schedule, or stays constant as in Li et al.'s
            translation runs.
    """

    scores_lr: Positive = 0.5
    scores_clip: Annotated[float, Field(gt=0, allow_inf_nan=True)] = 1.0
    scores_schedule: Literal["follow", "constant"] = "follow"

    def __post_init__(self) -> None:
        check_settings(self)


def learn(
    bench: Workbench,
    budget: Budget,
    relaxation: Relaxation,
    stage: Stage | None = None,
    start: Float64[Tensor, " head"] | None = None,
) -> Gates:
    """Train with gates on the model, remove the gates and return them. Their scores decide which heads stay.

    Args:
        bench: The model is trained in place, unless the stage freezes it.
        budget: The budget of the subset.
        relaxation: The function from scores to gates.
        stage: Stage of the training. None: the whole training.
        start: Initial scores, one for each competing head. None: the relaxation's own.
    """
    gates = attach(bench.model, relaxation, sites=budget.sites, unit=budget.unit, seed=bench.seed)
    if start is not None:
        gates.start_from(start)
    try:
        bench.train(gates, stage)
    finally:
        detach(bench.model)
    return gates
