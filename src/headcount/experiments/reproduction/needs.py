"""What a full run needs: its optimiser steps, counted from its recipes, and hours by a throughput that was measured."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from headcount.experiments.grid import Run
from headcount.experiments.recipe import Recipe
from headcount.methods import method
from headcount.methods.automatic import choose
from headcount.methods.facts import Length, Steps
from headcount.settings.training import USUAL_EPOCHS

ASSUMED = 100e12
"""Floating-point operations a second of one GPU, in the column that is no measurement: what large matrices reach in
bfloat16 on a data-centre GPU, with room for all that is no matrix product."""


@dataclass(frozen=True)
class Throughput:
    """How fast a shape trains on a machine, as `benchmarks/throughput.py` measured it.

    Attributes:
        shape: As in an experiment's `needs`.
        machine: The machine, in words.
        tokens_a_second: In training: forward, backward and optimiser.
        parameters: That every token meets: without embeddings that are only looked up.
    """

    shape: str
    machine: str
    tokens_a_second: float
    parameters: int


@dataclass(frozen=True)
class Cost:
    """What a grid costs.

    Attributes:
        runs: How many there are.
        steps: Optimiser steps of all, shared stages once; of a search over lambda, all its tries: at most so many.
        tokens: In those steps.
    """

    runs: int
    steps: int
    tokens: int

    def hours(self, throughput: Throughput) -> float:
        """On the machine that was measured."""
        return self.tokens / throughput.tokens_a_second / 3600

    def gpu_hours(self, throughput: Throughput) -> float:
        """On one GPU of `ASSUMED` operations a second; six of them a parameter and token, forward and backward."""
        return 6 * throughput.parameters * self.tokens / ASSUMED / 3600


def cost(runs: Sequence[Run], needs: Mapping[str, Any]) -> Cost:
    """What these runs cost.

    Args:
        runs: Of the full grid.
        needs: An experiment's: `steps_an_epoch`, `heads` that compete, `sites`, and `tokens_a_step`.
    """
    shared: dict[str, int] = {}
    steps = 0
    for run in runs:
        recipe, found = run.recipe, _steps(run.recipe, needs)
        steps += found.own
        if found.stage:
            shared[repr((found.stage, recipe.model, recipe.data, recipe.training, recipe.seed))] = found.shared
    steps += sum(shared.values())
    return Cost(len(runs), steps, steps * int(needs["tokens_a_step"]))


def read_throughputs(file: Path) -> list[Throughput]:
    """What was measured, a JSON line each."""
    return [Throughput(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def _steps(recipe: Recipe, needs: Mapping[str, Any]) -> Steps:
    epoch, heads = int(needs.get("steps_an_epoch", 0)), int(needs["heads"])
    total = recipe.training.steps or ceil((recipe.training.epochs or USUAL_EPOCHS) * epoch)
    kept = recipe.keep if isinstance(recipe.keep, int) else round((recipe.keep or 1.0) * heads)
    chosen = recipe.make_method() or method(choose(total)[0])
    return chosen.steps(Length(total, epoch, heads, kept, int(needs.get("sites", 1))))
