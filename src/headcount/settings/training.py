"""How a model is trained, as a recipe says it: settings, stretches of a training, shares of its steps."""

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
"""Those of transformers that depend on the step alone: a training can be rewound on them."""

USUAL_EPOCHS = 3.0
"""Passes over the data where nobody says how many: those of Li et al. 2021 for BERT."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained. The defaults are those of Li et al. 2021 for BERT.

    Attributes:
        epochs: Passes over the training data. If not given: 3; none for a trained model and a pipelined method.
        steps: Optimiser steps, instead of epochs.
        batch_size: Examples per device and step.
        batch_tokens: Instead of batch_size: tokens per device and step, padding included, of the longer side of a pair.
        lr: Peak learning rate of the weights.
        schedule: How the learning rate changes. The gates' learning rate follows it too.
        warmup: Steps in which the learning rate rises: a share of all (0.1), or their number (4000).
        weight_decay: On the weights; never on the gates' scores.
        max_grad_norm: Bound on the norm of the weights' gradients. The scores have a bound of their own.
        gradient_accumulation: Batches per optimiser step; each counts alike, however many tokens it has.
        group_by_length: Batch examples of like length together: less padding.
        precision: Of the products while training; bfloat16 and float16 are mixed precision.
        checkpoint_every: Steps between two checkpoints. A killed run goes on from the last one. 0: none.
        looks: How many times the state of the training is written to the record, with figures on development data.
        look_every: Instead of looks: steps between two of them.
        adam_beta2: Decay of Adam's second moments.
        smoothing: The trained weights are an exponential average of those after each step; the newest has this share
            (Marian's exponential smoothing; 0.0001 is usual for long trainings). 0: they are the last.
        average: The trained weights are the mean of those at this many last looks. 0: they are not.
        keep_best: The trained weights are those of the look with the best figure, not the last. Where gates learn, the
            last: earlier ones belong to other heads.
        stop_after: Stop when so many looks in a row brought no better figure. If not given, and where gates
            learn: train to the end.
        judge_by: The figure that says what is better: one of the task's, or loss. If not given: the task's first.
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
    """The same settings; of the usual number of epochs, where they do not say how long to train."""
    return settings if settings.says_how_long else replace(settings, epochs=USUAL_EPOCHS)


def steps_from(share: float | int, steps: int, name: str, there: str = "the training has") -> int:
    """Optimiser steps from what a recipe says: a share of a training's steps (a float), or their number (an int).

    A share above 0 is at least one step, where there is one.

    Args:
        share: The share or number.
        steps: Of the training, or of what is left of it.
        name: What the recipe calls it.
        there: What those steps are, for the message.

    Raises:
        BadRecipe: It is longer than the training, or negative.
    """
    if isinstance(share, float) and not 0 <= share <= 1:
        raise BadRecipe(
            f"'{name}' is a share of the training's steps, in [0, 1], or a whole number of them; got {share}."
        )
    # A share of next to nothing is still something to do: a lottery whose trainings have no steps ranks noise.
    number = share if isinstance(share, int) else min(steps, max(round(share * steps), 1 if share > 0 else 0))
    if not 0 <= number <= steps:
        raise BadRecipe(
            f"'{name}' is {share}, which is {number} steps, but {there} {steps}. Give a share in [0, 1] or at most "
            "that many steps, or train for longer."
        )
    return number


def world_size() -> int:
    """How many processes train together; torchrun and accelerate say so before anything starts."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this is the one of them that writes."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Stage:
    """A stretch of training.

    Attributes:
        name: Of its checkpoints and in the record.
        purpose: Where its costs are booked: `training`, or `selection` if it only serves to choose heads.
        steps: Optimiser steps. None: to the end of the schedule.
        first: Step of the schedule at which it begins.
        total: Steps of the whole schedule. None: the training's.
        frozen: Leave the weights alone; only gates learn.
        order: Another order of the data than the training's own: any number but 0.
        skip: Steps of the order of the data to pass over: with `first`, it goes on where that step left it.
        keeps_moments: Hand on what Adam knows at its end.
        last: A training ends with it, also where its schedule goes on.
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
