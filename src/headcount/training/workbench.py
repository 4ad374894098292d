"""The workbench of a method: model, data, settings, and the costs and dynamics of its trainings."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from torch import Tensor

from headcount.data.order import Batches, BatchOrder, ExampleOrder, by_length
from headcount.errors import BadData
from headcount.gates.trainable import Gates
from headcount.running.measure import peak_memory
from headcount.settings.training import USUAL_EPOCHS, Stage, TrainingSettings, world_size
from headcount.settings.writing import write_atomically
from headcount.training.callbacks import StageCallback
from headcount.training.final_weights import NOTHING_KEPT, Keeper
from headcount.training.stage_files import StageFiles, name_of_stage
from headcount.training.trainer import GatedTrainer, arguments_for
from headcount.units.map import Subset

LEAST_EXAMPLES = 16
"""Least number of development examples to score heads on."""


@dataclass
class Workbench:
    """The model, data and settings of a method, with the record of its trainings.

    Attributes:
        model: The model. A method may replace it.
        data: Tokenised training examples, with a `length` column.
        collator: Function that makes a batch of examples.
        settings: How to train.
        seed: Seed of the data order, dropout, gates and their noise.
        directory: Directory of the checkpoints. None: no checkpoints.
        shared: Directory of the checkpoints of stages that several runs share. None: the run's own directory.
        trained: Whether the model has been trained on the task.
        development: Tokenised held-out examples, to score heads and to evaluate during training.
        measure: Function that returns the figures of a model on development examples.
        costs: Costs of `training` and `selection`: optimiser steps, seconds, peak memory in bytes.
        dynamics: Evaluations and scorings during the run.
        notes: Further results that a method reports for this run.
        context: Other inputs of a training as plain data: the task and its fields.
    """

    model: Any
    data: Dataset
    collator: Any
    settings: TrainingSettings
    seed: int = 0
    directory: Path | None = None
    shared: Path | None = None
    trained: bool = False
    development: Dataset | None = None
    measure: Callable[[Any], Mapping[str, float]] | None = None
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    dynamics: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)

    @property
    def epochs(self) -> float:
        """Number of epochs of a training."""
        return self.settings.epochs or USUAL_EPOCHS

    @property
    def steps(self) -> int:
        """Number of optimiser steps of a training, on all processes together."""
        return self.settings.steps or self.steps_of(self.epochs)

    def steps_of(self, epochs: float) -> int:
        """Return the optimiser steps of so many passes over the training data, on all processes together."""
        if self.settings.batch_tokens is not None:
            return max(1, ceil(round(epochs * self._batches_an_epoch) / self._batches_a_step))
        return max(1, ceil(round(epochs * len(self.data)) / (self.settings.batch_size * self._batches_a_step)))

    @property
    def _batches_a_step(self) -> int:
        return self.settings.gradient_accumulation * world_size()

    @cached_property
    def _batches_an_epoch(self) -> int:
        """Number of batches in the first epoch, with `batch_tokens`. The number varies a little between epochs."""
        tokens, by_length = self.settings.batch_tokens or 1, self.settings.group_by_length
        return len(BatchOrder(self.data["length"], tokens, self.seed, by_length=by_length).epoch(0))

    def train(
        self,
        gates: Gates | None = None,
        stage: Stage | None = None,
        moments: Mapping[str, Mapping[str, Tensor]] | None = None,
    ) -> dict[str, dict[str, Tensor]]:
        """Train the model, with gates if given, from the stage's last checkpoint if there is one.

        Args:
            gates: Gates that are on the model.
            stage: Stage of the training. None: the whole training.
            moments: Adam's initial state, by parameter. None: a fresh state.

        Returns:
            Adam's state for each parameter at the end, if the stage keeps it. Otherwise empty.
        """
        stage = stage or Stage()
        total = self.steps if stage.total is None else stage.total
        steps = total - stage.first if stage.steps is None else stage.steps
        if steps < 1:
            return {}
        files = self._files(stage, total, steps)
        with files.alone():
            return self._train(gates, stage, moments, files, steps, total)

    def _train(
        self,
        gates: Gates | None,
        stage: Stage,
        moments: Mapping[str, Mapping[str, Tensor]] | None,
        files: StageFiles,
        steps: int,
        total: int,
    ) -> dict[str, dict[str, Tensor]]:
        device = next(self.model.parameters()).device
        clock = files.clock()
        # A stage in the middle of a training ends with its last weights.
        to_the_end = (stage.first + steps == total or stage.last) and not stage.frozen
        settings = self.settings if to_the_end else replace(self.settings, **NOTHING_KEPT)
        keeper = Keeper(settings, self.measure is not None, judges=gates is None)
        during = StageCallback(gates, self.measure, keeper, clock)
        trainer = self._trainer(during, stage, moments, files, steps, total)
        with self.booked(stage.purpose) as cost:
            checkpoint, done = files.last_checkpoint()
            if checkpoint is not None:
                keeper.load(checkpoint, device)
            over = (done >= steps or keeper.stopped) and (files.has_moments() or not stage.keeps_moments)
            if over:
                trainer.load(str(checkpoint))
            else:
                trainer.learn(checkpoint)
            cost["steps"] += trainer.state.global_step
            cost["seconds"] += clock.before["seconds"]
            cost["peak_memory"] = max(cost["peak_memory"], clock.before["peak_memory"])
            keeper.finish(self.model)
        # Mixed precision leaves its wrapper on the model's forward pass. Remove it after the training.
        trainer.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.model.eval()
        self.trained = True
        self.dynamics += trainer.looks(stage.name)
        return self._moments(trainer, files, over) if stage.keeps_moments else {}

    @staticmethod
    def _moments(trainer: GatedTrainer, files: StageFiles, over: bool) -> dict[str, dict[str, Tensor]]:
        if over and files.has_moments():
            return files.read_moments()
        known = trainer.adam()
        if trainer.is_world_process_zero():
            files.write_moments(known)
        return known

    def _trainer(
        self,
        during: StageCallback,
        stage: Stage,
        moments: Mapping[str, Mapping[str, Tensor]] | None,
        files: StageFiles,
        steps: int,
        total: int,
    ) -> GatedTrainer:
        saves = self.settings
        if files.shared and not saves.checkpoint_every:  # other runs load the last checkpoint
            saves = replace(saves, checkpoint_every=steps)
        by_tokens, device = self.settings.batch_tokens is not None, next(self.model.parameters()).device
        return GatedTrainer(
            model=self.model,
            args=arguments_for(saves, files.directory, steps, total, self.seed, device),
            train_dataset=Batches(self.data) if by_tokens else self.data,
            data_collator=(lambda batches: self.collator(batches[0])) if by_tokens else self.collator,
            sampler=self._order(stage, steps, total),
            during=during,
            frozen=stage.frozen,
            first=stage.first,
            total=total,
            moments=moments,
        )

    def _files(self, stage: Stage, total: int, steps: int) -> StageFiles:
        """Return the files of the stage. A digest of its definition names the directory if runs share it."""
        if self.directory is None:
            return StageFiles(None)
        if self.shared is None or not stage.shared:
            return StageFiles(self.directory / stage.name)
        parts = [asdict(stage), asdict(self.settings), self.seed, total, steps, self.context]
        return StageFiles(self.shared / name_of_stage(parts, self.model, self.data, self.development), shared=True)

    def _order(self, stage: Stage, steps: int, total: int) -> ExampleOrder | BatchOrder:
        settings, count, skip = self.settings, steps * self._batches_a_step, stage.skip * self._batches_a_step
        # A prime far above usual seeds keeps an order different from the order 0 of another seed.
        seed = self.seed + 1_000_003 * stage.order
        if settings.batch_tokens is not None:
            return BatchOrder(self.data["length"], settings.batch_tokens, seed, count, skip, settings.group_by_length)
        count, skip = count * settings.batch_size, skip * settings.batch_size
        if stage.first + steps == total == self.steps and settings.steps is None:  # the last batch need not be full
            count = round(self.epochs * len(self.data)) - stage.first * settings.batch_size * self._batches_a_step
        return ExampleOrder(
            self.data["length"], settings.batch_size, seed, max(1, count), skip, settings.group_by_length
        )

    def train_if_needed(self) -> None:
        """Train if the model has not been trained on the task, or if the settings state epochs or steps."""
        if not self.trained or self.settings.says_how_long:
            self.train(stage=Stage(shared=True))

    @contextmanager
    def booked(self, purpose: str) -> Iterator[dict[str, float]]:
        """Add the block's seconds and peak memory to a cost entry. The block may add other costs."""
        cost = self.costs.setdefault(purpose, {"steps": 0, "seconds": 0.0, "peak_memory": 0})
        start = time.perf_counter()
        with peak_memory() as peak:
            yield cost
        cost["seconds"] += time.perf_counter() - start
        cost["peak_memory"] = max(cost["peak_memory"], peak.bytes)

    def rebook(self, cost: str, purpose: str) -> None:
        """Move the costs of one entry, if it exists, to another."""
        moved, to = self.costs.pop(cost, {}), self.costs.setdefault(purpose, {})
        for name, value in moved.items():
            to[name] = max(to.get(name, 0), value) if name == "peak_memory" else to.get(name, 0) + value

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        """Do the work and save its result, which is plain data. A resumed run reads the saved result instead."""
        file = None if self.directory is None else self.directory / f"{name}.json"
        if file is not None and file.is_file():
            saved = json.loads(file.read_text(encoding="utf-8"))
            self.costs, self.dynamics = saved["costs"], saved["dynamics"]
            return saved["result"]
        result = work()
        if file is not None:
            saved = {"result": result, "costs": self.costs, "dynamics": self.dynamics}
            write_atomically(file, json.dumps(saved))
        return result

    def forget(self, stage: str) -> None:
        """Remove the checkpoints of a stage that is no longer needed."""
        if self.directory is not None:
            shutil.rmtree(self.directory / stage, ignore_errors=True)

    def batches(self, examples: int | None = None) -> Iterator[Mapping[str, Tensor]]:
        """Return labelled batches by length on the model's device: of all training examples, or n drawn by the seed."""
        chosen = np.arange(len(self.data))
        if examples is not None:
            chosen = np.random.default_rng(self.seed).permutation(chosen)[:examples]
        return self._batches(self.data.select(chosen.tolist(), keep_in_memory=True))

    def development_batches(self) -> Iterator[Mapping[str, Tensor]]:
        """Return batches of all development examples, by length.

        Raises:
            BadData: There are too few development examples to score heads on.
        """
        count = 0 if self.development is None else len(self.development)
        if self.development is None or count < LEAST_EXAMPLES:
            raise BadData(
                f"The development set has {count} examples, too few to score heads on; at least {LEAST_EXAMPLES} are "
                "needed. They are held out from the training data: give more, or hold out more (--development 64)."
            )
        return self._batches(self.development)

    def batches_for(self, importance: Any) -> Iterator[Mapping[str, Tensor]]:
        """Return the batches for an importance: the development batches, or none if it needs no examples.

        Raises:
            BadData: See `development_batches`.
        """
        return self.development_batches() if importance.needs_examples else iter(())

    def _batches(self, rows: Dataset) -> Iterator[Mapping[str, Tensor]]:
        device = next(self.model.parameters()).device
        for members in by_length(rows["length"], self.settings.batch_size, self.settings.batch_tokens):
            batch = self.collator([rows[i] for i in members.tolist()])
            yield {name: value.to(device) for name, value in batch.items()}

    def close(self, subset: Subset) -> None:
        """Add to the dynamics the share of each earlier subset that is in the final subset."""
        final = set(subset.indices)
        for look in self.dynamics:
            if "kept" in look:
                look["finally_kept"] = len(final & set(look["kept"])) / max(1, len(look["kept"]))
