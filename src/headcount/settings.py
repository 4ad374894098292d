"""How a model is trained, as a recipe says it: settings, stretches of a training, shares of its steps."""

from dataclasses import dataclass

from headcount.errors import BadRecipe

PRECISIONS = ("float32", "bfloat16", "float16")
SCHEDULES = (
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
)  # fmt: skip
"""Those of transformers that depend on the step alone: a training can be rewound on them."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained. The defaults are those of Li et al. 2021 for BERT.

    Attributes:
        epochs: Passes over the training data. None: 3, or none at all for a pipelined method whose model has been
            trained on the task already.
        batch_size: Examples per device and step.
        lr: Peak learning rate of the weights.
        schedule: One of `SCHEDULES`; the gates' learning rate follows it too.
        warmup: Share of the steps in which the learning rate rises.
        weight_decay: On the weights; never on the gates' scores.
        max_grad_norm: Bound on the norm of the weights' gradients. The scores have a bound of their own.
        gradient_accumulation: Batches per optimiser step.
        group_by_length: Batch examples of like length together: less padding.
        precision: `float32`, or `bfloat16` or `float16` mixed precision.
        checkpoint_every: Steps between two checkpoints, from which a killed run goes on. 0: none.
        looks: How many times the state of the training is written to the record.
    """

    epochs: float | None = None
    batch_size: int = 32
    lr: float = 2e-5
    schedule: str = "linear"
    warmup: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_accumulation: int = 1
    group_by_length: bool = True
    precision: str = "float32"
    checkpoint_every: int = 500
    looks: int = 10

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise BadRecipe(f"Got precision '{self.precision}'. Valid choices: {', '.join(PRECISIONS)}.")
        for name, least in {
            "batch_size": 1,
            "gradient_accumulation": 1,
            "checkpoint_every": 0,
            "looks": 1,
        }.items():
            if getattr(self, name) < least:
                raise BadRecipe(f"Got {name} {getattr(self, name)}. Give {least} or more.")
        if self.schedule not in SCHEDULES:
            raise BadRecipe(f"Unknown schedule '{self.schedule}'. Valid: {', '.join(SCHEDULES)}.")
        if not 0 <= self.warmup <= 1 or self.weight_decay < 0:
            raise BadRecipe(
                "'warmup' is a share of the steps, from 0 to 1, and 'weight_decay' is not negative; got "
                f"{self.warmup} and {self.weight_decay}."
            )
        if self.lr <= 0 or (self.epochs is not None and self.epochs <= 0):
            raise BadRecipe(f"Learning rate and epochs must be positive, got lr {self.lr} and epochs {self.epochs}.")


def steps_from(share: float | int, steps: int, name: str) -> int:
    """Optimiser steps from what a recipe says: a share of a training's steps (a float), or their number (an int).

    Raises:
        BadRecipe: It is longer than the training, or negative.
    """
    if isinstance(share, float) and not 0 <= share <= 1:
        raise BadRecipe(
            f"'{name}' is a share of the training's steps, in [0, 1], or a whole number of them; got {share}."
        )
    number = share if isinstance(share, int) else round(share * steps)
    if not 0 <= number <= steps:
        raise BadRecipe(
            f"'{name}' is {share}, which is {number} steps, but the training has {steps}. Give a share in [0, 1] or at "
            "most that many steps, or train for longer."
        )
    return number


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
