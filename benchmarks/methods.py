"""Every method at several budgets on one data set; what is there is not done again, and a killed run goes on.

    python benchmarks/methods.py nli TRAIN VALIDATION MODEL RUNS --train-limit 12000

The trained unpruned model is what the pipelined methods start from; Michel's greedy removal goes on from the larger
budget's model. Voita's lambda is tried on a grid once, at one budget; other budgets take the lambda whose count should
be nearest, by interpolation between the grid's counts. With --only dsp-joint,ste some methods; with --keep 12,6 some
budgets; with --seeds 0,1 more than one seed. `reinit` starts from the lottery's structure, and runs if it is named.
"""

import argparse
import json
import math
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from headcount import Recipe, TrainingSettings, run_recipe
from headcount.errors import PruningError
from headcount.records import read_record

LAMBDAS = (0.0003, 0.001, 0.003, 0.01, 0.03)
JOINT = ("gradual", "dsp-joint", "ste", "fewer-heads", "lottery")
PIPELINED = ("magnitude", "random", "dsp-pipelined")


class Runs:
    """The runs on one data set."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.directory, self.failed = options, options.runs / options.name, False

    def run(
        self, name: str, method: str, keep: int | None, seed: int, model: Path | None = None, **changes: Any
    ) -> Any:
        """The record of a run that is there, or of one made now; None where it failed, which is told."""
        output = self.directory / name
        training = TrainingSettings(epochs=self.options.epochs, lr=self.options.lr)
        if model is not None and method != "reinit":  # trained already, and scored as it is
            training = replace(training, epochs=None)
        data = {
            "train": str(self.options.train),
            "validation": str(self.options.validation),
            "train_limit": self.options.train_limit,
        }
        source = str(model or self.options.model)
        recipe = Recipe(source, method, keep, data, options=changes, seed=seed, training=training)
        if (output / "headcount.json").is_file():
            record = read_record(output / "headcount.json")
            if record.recipe != json.loads(json.dumps(recipe.to_json())):
                raise SystemExit(f"{output} is of another recipe. Name another directory for these runs.")
            return record
        start = time.perf_counter()
        try:
            record = run_recipe(recipe, output)
        except PruningError as error:
            print(f"{name}: {error}", flush=True)
            self.failed = True
            return None
        print(f"{name}: {record.metrics['accuracy']:.4f} in {time.perf_counter() - start:.0f} s", flush=True)
        return record

    def seed(self, seed: int, keeps: list[int], methods: list[str]) -> None:
        """All methods at these budgets."""
        end = "" if seed == 0 else f"-seed{seed}"
        self.run(f"unpruned{end}", "unpruned", None, seed)
        whole = self.directory / f"unpruned{end}"
        for keep in keeps:
            for method in JOINT:
                if method in methods:
                    self.run(f"{method}-{keep}{end}", method, keep, seed)
            for method in PIPELINED:
                if method in methods:
                    self.run(f"{method}-{keep}{end}", method, keep, seed, whole)
            if "reinit" in methods:
                self.run(f"reinit-{keep}{end}", "reinit", keep, seed, self.directory / f"lottery-{keep}{end}")
            if "voita" in methods:
                self.run(f"voita-{keep}{end}", "voita", keep, seed, **{"lambda": self.weight(keep)})
        last = whole
        for keep in sorted(keeps, reverse=True) if "michel" in methods else ():
            self.run(f"michel-{keep}{end}", "michel", keep, seed, last, examples=1024, heads_per_step=3)
            last = self.directory / f"michel-{keep}{end}"

    def weight(self, keep: int) -> float:
        """The lambda that should leave so many heads open, between the grid's."""
        grid = [self.run(f"voita-lambda-{weight}", "voita", 12, 0, **{"lambda": weight}) for weight in LAMBDAS]
        found = [
            (record.notes["voita"]["open"], math.log(record.notes["voita"]["lambda"])) for record in grid if record
        ]
        # Where noise has a larger lambda leave more heads, or as many, the mean of these lambdas stands for the count.
        falling = np.minimum.accumulate([count for count, _ in found])
        counts = sorted(set(falling.tolist()))
        logs = [np.mean([log for (_, log), at in zip(found, falling, strict=True) if at == count]) for count in counts]
        return float(f"{math.exp(np.interp(keep, counts, logs)):.3g}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Every method at several budgets on one data set.")
    parser.add_argument("name")
    for name in ("train", "validation", "model", "runs"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--train-limit", type=int)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--keep", default="12,36,6,24,54,3")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--only", default=",".join((*JOINT, *PIPELINED, "michel", "voita")))
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    runs = Runs(options)
    for seed in map(int, options.seeds.split(",")):
        runs.seed(seed, list(map(int, options.keep.split(","))), options.only.split(","))
    sys.exit(1 if runs.failed else 0)


if __name__ == "__main__":
    main()
