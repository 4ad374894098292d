"""Trainings with figures as they are told, look by look; what a training ended with, and after each step."""

from collections.abc import Mapping, Sequence
from typing import Any

from benches import Weights, recorded, weights
from headcount.training.workbench import Workbench


def far(some: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether a test that takes one for the other would notice."""
    return any(bool(((some[name] - others[name]).abs() > 1e-4).any()) for name in some)


def of_weights(found: Weights) -> float:
    """A figure that any change of any weight changes."""
    return float(sum(weight.double().sum() for weight in found.values()))


class Script:
    """Figures as they are told, look by look; weights that were seen before get what they got."""

    def __init__(self, figures: Sequence[float], name: str = "accuracy", **others: Sequence[float]) -> None:
        self.figures: dict[str, Sequence[float]] = {name: figures, **others}
        self.seen: list[float] = []

    def __call__(self, model: Any) -> dict[str, float]:
        size = of_weights(weights(model))
        if size not in self.seen:
            self.seen.append(size)
        return {name: figures[self.seen.index(size)] for name, figures in self.figures.items()}


def trained(on: Workbench) -> tuple[Weights, list[Weights]]:
    """What a training ended with, and what each of its steps left."""
    with recorded() as steps:
        on.train()
    return weights(on.model), steps
