"""The settings of a recipe, as plain values. `Recipe` interprets them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from headcount.settings.schema import Seed
from headcount.settings.training import TrainingSettings


@dataclass(frozen=True)
class RecipeSettings:
    """The settings that define a run.

    Attributes:
        model: A model directory, a model name on the Hub, or a new translation model (new:tiny-student,
            new:transformer-base,d_model=256).
        method: Pruning method: a name from headcount methods, or auto, which chooses by the length of training.
        keep: Heads to keep: a number (12) or a share (0.25). Only the method unpruned needs none.
        data: The data settings of the task: files, columns, limits.
        task: classification or translation.
        sites: Kind of attention that the budget covers: encoder, decoder or cross. If not given: all.
        unit: Unit that is removed under grouped-query attention: a whole group, or a query head of each group.
        options: The method's hyper-parameters that differ from its defaults.
        training: The training settings.
        seed: Seed of everything random.
    """

    model: str
    method: str
    keep: int | float | None
    data: Mapping[str, Any]
    task: str = "classification"
    sites: str | None = None
    unit: Literal["group", "query"] = "group"
    options: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    seed: Seed = 0
