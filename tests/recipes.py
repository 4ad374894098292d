"""Recipes on a tiny model, for the tests that carry them out; and which of many cases the fast suite takes."""

from pathlib import Path
from typing import Any

import pytest

from headcount.methods import METHODS
from headcount.recipe import Recipe
from headcount.settings import TrainingSettings

OPTIONS: dict[str, dict[str, Any]] = {
    "michel": {"heads_per_step": 3, "examples": 20},
    "voita": {"lambda": 0.01},
    "lottery": {"late_reset": 2, "iteration": 1, "heads_per_iteration": 3},
    "reinit": {"late_reset": 2, "iteration": 1, "heads_per_iteration": 3},
    "random": {"draws": 3},
}
QUICK = TrainingSettings(epochs=1.0, batch_size=8, lr=1e-3, checkpoint_every=0, looks=3)


def recipe(name: str, keep: float | None, model: Path, data: dict[str, str], **changes: Any) -> Recipe:
    settings = {"options": OPTIONS.get(name, {}), "training": QUICK, **changes}
    return Recipe(str(model), name, keep, {**data, "development": 16}, **settings)


slow = pytest.mark.slow
PRUNING = sorted(set(METHODS) - {"unpruned"})
BRIEF = ("dsp-joint", "gradual", "michel")
"""Methods that the fast suite puts through all of the contract; the others go through the rest in the slow one."""


def some(names: list[str], fast: tuple[str, ...] = BRIEF) -> list[Any]:
    return [name if name in fast else pytest.param(name, marks=slow) for name in names]
