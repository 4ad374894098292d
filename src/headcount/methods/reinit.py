"""The lottery's structure, trained from new random weights."""

import copy
from dataclasses import dataclass

import torch

from headcount.anatomy import present
from headcount.methods.facts import Length, Steps
from headcount.methods.lottery import Lottery
from headcount.settings.training import Stage
from headcount.surgery.cut import remove_heads
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from headcount.units.map import Subset


@dataclass(frozen=True)
class Reinit(Lottery):
    """The heads that a lottery keeps, trained from new random weights (Behnke and Heafield 2020, Table 5).

    A model that has only the budget's heads left gives the structure. Otherwise a lottery with these options finds
    the structure first. All weights are drawn anew, as for a new model of that configuration. A pretrained model
    keeps nothing but its shape.
    """

    def steps(self, length: Length) -> Steps:
        """Return the steps of the training. The search for the structure is not counted here."""
        return Steps(length.total)

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Find the structure, draw new weights, and train."""
        here = present(bench.model)
        candidates, keep = budget.resolve(here)
        config = copy.deepcopy(bench.model.config)
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # the new model has all heads; `remove_heads` cuts them below
        generation = copy.deepcopy(getattr(bench.model, "generation_config", None))
        subset = here
        if len(candidates) > keep:
            subset = self.find(bench, budget).subset
            bench.rebook("training", "selection")
        with torch.random.fork_rng():
            torch.manual_seed(bench.seed)
            fresh = type(bench.model)(config)
        if generation is not None:
            fresh.generation_config = generation
        device, dtype = next(bench.model.parameters()).device, next(bench.model.parameters()).dtype
        bench.model = remove_heads(fresh.to(device, dtype), subset)
        bench.train(stage=Stage("reinitialised"))
        return subset
