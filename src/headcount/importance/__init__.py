"""Scores for heads, computed from a trained model and data. One file each."""

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
    """What every importance is."""

    needs_examples: ClassVar[bool]
    """Whether it looks at the batches at all."""

    def scores(
        self, model: nn.Module, batches: Iterable[Mapping[str, Tensor]], subset: Subset
    ) -> Float64[Tensor, " head"]:
        """One score for each head of the subset, in flat order; high scores stay."""
        ...


IMPORTANCES: dict[str, type[Any]] = {
    "confidence": Confidence,
    "gradient": GradientImportance,
    "magnitude": MagnitudeImportance,
    "random": RandomImportance,
}
"""Name -> importance, with its published defaults."""


def importance(name: str, seed: int = 0) -> Importance:
    """The importance of that name; `seed` is for the one that is drawn.

    Raises:
        BadRecipe: There is none.
    """
    if name not in IMPORTANCES:
        raise BadRecipe(f"Unknown importance '{name}'. Valid: {', '.join(IMPORTANCES)}.")
    return RandomImportance(seed) if name == "random" else IMPORTANCES[name]()


def ranking(
    ranks: Importance, model: nn.Module, batches: Iterable[Mapping[str, Tensor]], present: Subset, candidates: Subset
) -> list[float]:
    """The scores of the heads that compete, in flat order, measured with all heads that are there."""
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
