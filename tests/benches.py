"""Workbenches with a tiny classifier, for the tests of trainings; and what a training did."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import Tensor

from families import VOCABULARY, tiny
from headcount.settings.training import TrainingSettings
from headcount.training.callbacks import GatesCallback
from headcount.training.workbench import Workbench

Weights = dict[str, Tensor]


def rows_of(lengths: Sequence[int], seed: int = 0) -> Dataset:
    """Random token ids, as many as it says, of three classes."""
    random = np.random.default_rng(seed)
    ids = [random.integers(1, VOCABULARY, length).tolist() for length in lengths]
    return Dataset.from_dict({"input_ids": ids, "labels": [row[0] % 3 for row in ids], "length": list(lengths)})


ROWS = rows_of(np.random.default_rng(0).integers(4, 25, 40).tolist())


def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """A batch, padded with token 0 to the longest."""
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in rows])
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": torch.tensor([r["labels"] for r in rows])}


def bench(directory: Path | None = None, measure: Any = None, rows: Dataset = ROWS, **settings: Any) -> Workbench:
    """A workbench with a BERT of 3 layers of 4 heads; it trains for 12 steps unless the settings say otherwise."""
    length = {} if "epochs" in settings else {"steps": 12}
    given = {"batch_size": 8, "lr": 1e-3, "schedule": "constant", "checkpoint_every": 0, **length, **settings}
    return Workbench(tiny("bert"), rows, collate, TrainingSettings(**given), directory=directory, measure=measure)


def weights(model: Any) -> Weights:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def alike(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    """Whether they have the same bits."""
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


@contextmanager
def recorded() -> Iterator[list[Weights]]:
    """The weights after each optimiser step, as the optimiser left them."""
    found: list[Weights] = []
    step_end = GatesCallback.on_step_end

    def on_step_end(*args: Any, **kwargs: Any) -> None:
        found.append(weights(kwargs["model"]))
        step_end(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GatesCallback, "on_step_end", on_step_end)
        yield found
