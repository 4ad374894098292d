"""The training part of a recipe: training settings, stages of a training, and shares of its steps."""

import os
from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

from pydantic import Field

from headcount.errors import BadRecipe
from headcount.settings.schema import Count, NotNegative, Positive, Rest, ShareOrSteps, Whole, check_settings

Schedule = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
]  # fmt: skip
SCHEDULES: tuple[str, ...] = get_args(Schedule)
"""The schedules of transformers that depend on the step alone. A training can be rewound on each of them."""

USUAL_EPOCHS = 3.0
"""Default number of passes over the training data (Li et al. 2021 for BERT)."""


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of a training. The defaults are those of Li et al. 2021 for BERT.

    Attributes:
        epochs: Passes over the training data. If not given: 3, or none for a trained model with a pipelined method.
        steps: Number of optimiser steps. Give this instead of epochs.
        batch_size: Examples per device and step.
        batch_tokens: Tokens per device and step, instead of batch_size. Counts padding, on the longer side of a pair.
        lr: Peak learning rate of the weights.
        schedule: Learning-rate schedule of the weights. The gates' learning rate follows it too.
        warmup: Steps in which the learning rate rises: a share of all steps (0.1), or their number (4000).
        weight_decay: Weight decay of the weights. The gates' scores have none.
        max_grad_norm: Bound on the norm of the weights' gradients. The gates' scores have a separate bound.
        gradient_accumulation: Batches per optimiser step. Each batch has the same weight, whatever its size in tokens.
        group_by_length: Put examples of similar length in one batch. This reduces padding.
        precision: Precision of matrix products in training. bfloat16 and float16 give mixed precision.
        checkpoint_every: Steps between two checkpoints. A killed run resumes from the last one. 0: no checkpoints.
        looks: Number of evaluations during training. Each writes its figures on development data to the record.
        look_every: Steps between two evaluations. Give this instead of looks.
        adam_beta2: Decay rate of Adam's second moments.
        smoothing: End with an exponential average of the weights, in which the newest weights have this share. This is
            Marian's exponential smoothing; 0.0001 is usual for long trainings. 0: end with the last weights.
        average: End with the mean of the weights at this many last evaluations. 0: do not average.
        keep_best: End with the weights of the best evaluation, not the last. A training with gates ignores this:
            its earlier weights belong to other heads.
        stop_after: Stop after this many evaluations in a row without a better figure. If not given: train to the end.
            A training with gates ignores this.
        judge_by: Figure that evaluations are compared by: one of the task's, or loss. If not given: the task's first.
    """

    epochs: Positive | None = None
    steps: Count | None = None
    batch_size: Count = 32
    batch_tokens: Count | None = None
    lr: Positive = 2e-5
    schedule: Schedule = "linear"
    warmup: ShareOrSteps = 0.0
    weight_decay: NotNegative = 0.0
    max_grad_norm: NotNegative = 1.0
    gradient_accumulation: Count = 1
    group_by_length: bool = True
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    checkpoint_every: Whole = 500
    looks: Count = 10
    look_every: Count | None = None
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    smoothing: Rest = 0.0
    average: Whole = 0
    keep_best: bool = False
    stop_after: Count | None = None
    judge_by: str | None = None

    def __post_init__(self) -> None:
        check_settings(self)
        if self.steps is not None and self.epochs is not None:
            raise BadRecipe(f"Got {self.steps} steps and {self.epochs} epochs. Give one of them.")
        if self.average and self.keep_best:
            raise BadRecipe("The trained weights are the mean of several looks or those of the best: give one of them.")

    @property
    def says_how_long(self) -> bool:
        """Whether the length of the training is stated."""
        return (self.epochs, self.steps) != (None, None)


def with_a_length(settings: TrainingSettings) -> TrainingSettings:
    """Return the settings, with the default number of epochs if they state no length."""
    return settings if settings.says_how_long else replace(settings, epochs=USUAL_EPOCHS)


def steps_from(share: float | int, steps: int, name: str, there: str = "the training has") -> int:
    """Return a number of optimiser steps, given a share of a training's steps (a float) or their number (an int).

    A share above 0 gives at least one step, if the training has one.

    Args:
        share: The share or number.
        steps: Steps of the training, or of the rest of it.
        name: The setting's name in the recipe.
        there: Description of `steps` for the error message.

    Raises:
        BadRecipe: The share or number is negative, or exceeds the training.
    """
    if isinstance(share, float) and not 0 <= share <= 1:
        raise BadRecipe(
            f"'{name}' is a share of the training's steps, in [0, 1], or a whole number of them; got {share}."
        )
    # A tiny share still gives one step: a lottery whose iterations have no steps would rank noise.
    number = share if isinstance(share, int) else min(steps, max(round(share * steps), 1 if share > 0 else 0))
    if not 0 <= number <= steps:
        raise BadRecipe(
            f"'{name}' is {share}, which is {number} steps, but {there} {steps}. Give a share in [0, 1] or at most "
            "that many steps, or train for longer."
        )
    return number


def world_size() -> int:
    """Return how many processes train together. torchrun and accelerate set this number in the environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Return whether this is the process that writes files."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Stage:
    """One stage of a training.

    Attributes:
        name: The stage's name in the record, and of its checkpoint directory.
        purpose: Cost entry of the stage: `training`, or `selection` if the stage only serves to choose heads.
        steps: Optimiser steps. None: to the end of the schedule.
        first: Step of the schedule at which the stage begins.
        total: Steps of the whole schedule. None: the training's.
        frozen: Freeze the weights, so that only gates learn.
        order: Number of the data order. 0 is the training's own order.
        skip: Steps of the data order to skip. With `skip` equal to `first`, the data continue from that step.
        keeps_moments: Return Adam's state at the end of the stage.
        last: The training ends with this stage, even if the schedule does not.
        shared: Runs of a sweep that begin with this stage, from the same weights on the same data, train it once.
    """

    name: str = "training"
    purpose: str = "training"
    steps: int | None = None
    first: int = 0
    total: int | None = None
    frozen: bool = False
    order: int = 0
    skip: int = 0
    keeps_moments: bool = False
    last: bool = False
    shared: bool = False
