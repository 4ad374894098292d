"""What a recipe states. Plain values: `Recipe` gives them a meaning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from headcount.settings.schema import Seed
from headcount.settings.training import TrainingSettings


@dataclass(frozen=True)
class RecipeSettings:
    """Everything that defines a run.

    Attributes:
        model: A model directory, or a name on the Hub; or a new translation model: new:tiny-student,
            new:transformer-base,d_model=256.
        method: How heads are chosen: headcount methods lists them; auto goes by the length of training.
        keep: Heads to keep: a number (12) or a share (0.25). Only the method unpruned needs none.
        data: The data settings of the task: files, columns, limits.
        task: classification or translation.
        sites: Budget over one kind of attention: encoder, decoder or cross. If not given: over all.
        unit: What is removed at a time under grouped-query attention: whole groups, or a query head of each.
        options: The method's hyper-parameters that are not the paper's.
        training: How to train.
        seed: Of everything random.
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
