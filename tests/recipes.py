"""Recipes on a tiny model, for the tests that carry them out; and which of many cases the fast suite takes."""

from pathlib import Path
from typing import Any

import pytest

from headcount.experiments.recipe import Recipe
from headcount.methods import METHODS
from headcount.settings.training import TrainingSettings
from headcount.training.workbench import Workbench

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


def workbench(of: Recipe, settings: TrainingSettings) -> Workbench:
    """The recipe's model and training rows, ready to train, with no gates."""
    task = of.make_task()
    examples = task.load()
    tokenizer = task.tokenizer_for(of.model)
    model = task.model_for(of.model, examples).model
    return Workbench(model, task.tokenize(tokenizer, examples.train, ("no", "yes")), task.collator(tokenizer), settings)


DYNAMICS = {"step", "heads", "kept", "entropy", "signal", "gap_at_k", "dropped_gradients"}
"""What every look says of gates that learn."""


def require_dynamics(name: str, looks: list[dict[str, Any]], keep: int) -> None:
    """The looks say all that a record promises of gates."""
    of_gates = [look for look in looks if "entropy" in look]
    assert bool(of_gates) == METHODS[name].learns_by_gates
    for look in of_gates:
        assert DYNAMICS | METHODS[name].dynamics <= set(look) and len(look["kept"]) == keep
        assert look["entropy"] >= 0 and look["signal"] >= 0 and look["gap_at_k"] >= 0 and look["dropped_gradients"] >= 0
        assert 0 <= look["finally_kept"] <= 1


slow = pytest.mark.slow
PRUNING = sorted(name for name in METHODS if not METHODS[name].ignores_budget)
BRIEF = ("dsp-joint", "gradual", "michel")
"""Methods that the fast suite puts through all of the contract; the others go through the rest in the slow one."""


def some(names: list[str], fast: tuple[str, ...] = BRIEF) -> list[Any]:
    return [name if name in fast else pytest.param(name, marks=slow) for name in names]
