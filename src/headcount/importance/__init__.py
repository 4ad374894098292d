"""Importances: scores of heads, computed from a trained model and data, one file each."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Float64
from torch import Tensor, nn

from headcount.errors import BadRecipe
from headcount.importance.confidence import Confidence
from headcount.importance.gradient import GradientImportance
from headcount.importance.magnitude import MagnitudeImportance
from headcount.importance.random import RandomImportance
from headcount.units.map import Subset


@runtime_checkable
class Importance(Protocol):
    """The interface of an importance."""

    needs_examples: ClassVar[bool]
    """Whether it reads the batches."""

    def scores(
        self, model: nn.Module, batches: Iterable[Mapping[str, Tensor]], subset: Subset
    ) -> Float64[Tensor, " head"]:
        """Return one score for each head of the subset, in flat order. Heads with high scores stay."""
        ...


IMPORTANCES: dict[str, type[Any]] = {
    "confidence": Confidence,
    "gradient": GradientImportance,
    "magnitude": MagnitudeImportance,
    "random": RandomImportance,
}
"""The importances by name, with their published defaults."""


def importance(name: str, seed: int = 0) -> Importance:
    """Return the importance of that name. Only the random one uses `seed`.

    Raises:
        BadRecipe: No importance has that name.
    """
    if name not in IMPORTANCES:
        raise BadRecipe(f"Unknown importance '{name}'. Valid: {', '.join(IMPORTANCES)}.")
    return RandomImportance(seed) if name == "random" else IMPORTANCES[name]()


def ranking(
    ranks: Importance, model: nn.Module, batches: Iterable[Mapping[str, Tensor]], present: Subset, candidates: Subset
) -> list[float]:
    """Return the scores of the heads that compete, in flat order, measured with all present heads."""
    scores = dict(zip(present.indices, ranks.scores(model, batches, present).tolist(), strict=True))
    return [scores[index] for index in candidates.indices]


__all__ = [
    "IMPORTANCES",
    "Confidence",
    "GradientImportance",
    "Importance",
    "MagnitudeImportance",
    "RandomImportance",
    "importance",
    "ranking",
]
