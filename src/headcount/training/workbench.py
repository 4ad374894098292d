"""What a method works on: a model, data and settings, and the books of what was trained."""

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
"""Fewer examples than this do not tell heads apart."""


@dataclass
class Workbench:
    """What a method works on; it keeps the books.

    Attributes:
        model: The model. A method may put another in its place.
        data: Tokenised training examples, with a `length` column.
        collator: Makes batches of them.
        settings: How to train.
        seed: Of the data order, dropout, gates and their noise.
        directory: Where checkpoints go. None: none are written.
        shared: Where those of stages go that several runs have in common. None: with the others.
        trained: Whether the model has been trained on the task.
        development: Tokenised examples that nothing is trained on: heads are scored and trainings followed on them.
        measure: The figures of a model on development examples, for the record.
        costs: Of `training` and `selection`: optimiser steps, seconds, peak memory in bytes.
        dynamics: What was seen during training.
        notes: What a method has to tell of this run.
        context: What else a training depends on, as plain data: the task and its fields.
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
        """Epochs of a training."""
        return self.settings.epochs or USUAL_EPOCHS

    @property
    def steps(self) -> int:
        """Optimiser steps of a training, on all processes together."""
        return self.settings.steps or self.steps_of(self.epochs)

    def steps_of(self, epochs: float) -> int:
        """Optimiser steps of so many passes over the training data, on all processes together."""
        if self.settings.batch_tokens is not None:
            return max(1, ceil(round(epochs * self._batches_an_epoch) / self._batches_a_step))
        return max(1, ceil(round(epochs * len(self.data)) / (self.settings.batch_size * self._batches_a_step)))

    @property
    def _batches_a_step(self) -> int:
        return self.settings.gradient_accumulation * world_size()

    @cached_property
    def _batches_an_epoch(self) -> int:
        """Batches of tokens in the first epoch; how many there are in others depends on chance, a little."""
        tokens, by_length = self.settings.batch_tokens or 1, self.settings.group_by_length
        return len(BatchOrder(self.data["length"], tokens, self.seed, by_length=by_length).epoch(0))

    def train(
        self,
        gates: Gates | None = None,
        stage: Stage | None = None,
        moments: Mapping[str, Mapping[str, Tensor]] | None = None,
    ) -> dict[str, dict[str, Tensor]]:
        """Train the model, with the gates if there are any; go on from the stage's last checkpoint if there is one.

        Args:
            gates: Gates that are on the model.
            stage: Which stretch of training. None: all of it.
            moments: What Adam starts from, by parameter. None: from nothing.

        Returns:
            What Adam knows of each parameter at the end, if the stage keeps it.
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
        # What a stage in the middle hands on are its last weights.
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
        # Mixed precision wraps the model's forward pass for good; here it ends with the training.
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
        if files.shared and not saves.checkpoint_every:  # the last one is what others take up
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
        """Where the stage's checkpoints lie: by what defines it, if runs share it."""
        if self.directory is None:
            return StageFiles(None)
        if self.shared is None or not stage.shared:
            return StageFiles(self.directory / stage.name)
        parts = [asdict(stage), asdict(self.settings), self.seed, total, steps, self.context]
        return StageFiles(self.shared / name_of_stage(parts, self.model, self.data, self.development), shared=True)

    def _order(self, stage: Stage, steps: int, total: int) -> ExampleOrder | BatchOrder:
        settings, count, skip = self.settings, steps * self._batches_a_step, stage.skip * self._batches_a_step
        # A prime far above the seeds that people give: another order is not another seed's own.
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
        """Train a model that has not been trained on the task, or when epochs or steps are asked for."""
        if not self.trained or self.settings.says_how_long:
            self.train(stage=Stage(shared=True))

    @contextmanager
    def booked(self, purpose: str) -> Iterator[dict[str, float]]:
        """Book the block's seconds and peak memory; the block may add its own costs."""
        cost = self.costs.setdefault(purpose, {"steps": 0, "seconds": 0.0, "peak_memory": 0})
        start = time.perf_counter()
        with peak_memory() as peak:
            yield cost
        cost["seconds"] += time.perf_counter() - start
        cost["peak_memory"] = max(cost["peak_memory"], peak.bytes)

    def rebook(self, cost: str, purpose: str) -> None:
        """Book what stands under one name, if anything does, under another."""
        moved, to = self.costs.pop(cost, {}), self.costs.setdefault(purpose, {})
        for name, value in moved.items():
            to[name] = max(to.get(name, 0), value) if name == "peak_memory" else to.get(name, 0) + value

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        """What the work gives, as plain data; a run that was killed afterwards reads it back instead."""
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
        """Remove the checkpoints of a stage that nothing will go back to."""
        if self.directory is not None:
            shutil.rmtree(self.directory / stage, ignore_errors=True)

    def batches(self, examples: int | None = None) -> Iterator[Mapping[str, Tensor]]:
        """Batches with labels on the model's device, by length: all training examples, or n drawn by the seed."""
        chosen = np.arange(len(self.data))
        if examples is not None:
            chosen = np.random.default_rng(self.seed).permutation(chosen)[:examples]
        return self._batches(self.data.select(chosen.tolist(), keep_in_memory=True))

    def development_batches(self) -> Iterator[Mapping[str, Tensor]]:
        """Batches of all development examples, by length.

        Raises:
            BadData: They are too few to score heads on.
        """
        count = 0 if self.development is None else len(self.development)
        if self.development is None or count < LEAST_EXAMPLES:
            raise BadData(
                f"The development set has {count} examples, too few to score heads on; at least {LEAST_EXAMPLES} are "
                "needed. They are held out from the training data: give more, or hold out more (--development 64)."
            )
        return self._batches(self.development)

    def batches_for(self, importance: Any) -> Iterator[Mapping[str, Tensor]]:
        """What an importance ranks heads by: the development batches, or nothing if it looks at no examples.

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
        """Note in the dynamics what share of each earlier subset is in the final one."""
        final = set(subset.indices)
        for look in self.dynamics:
            if "kept" in look:
                look["finally_kept"] = len(final & set(look["kept"])) / max(1, len(look["kept"]))
