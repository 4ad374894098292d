"""Training with gates: Hugging Face's Trainer, and what a method needs around it.

Progress bars, mixed precision, checkpoints and resuming, `accelerate launch` and `torchrun` are the Trainer's own. All
that is added: the gates' penalty in the loss, and their step after the optimiser's.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import SchedulerType

from headcount.errors import BadRecipe
from headcount.gating import Gates

PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained. The defaults are those of Li et al. 2021 for BERT.

    Attributes:
        epochs: Passes over the training data. None: 3, or none at all for a pipelined method whose model has been
            trained on the task already.
        batch_size: Examples per device and step.
        lr: Peak learning rate of the weights.
        schedule: Name of a schedule of transformers; the gates' learning rate follows it too.
        warmup: Share of the steps in which the learning rate rises.
        weight_decay: On the weights; never on the gates' scores.
        max_grad_norm: Bound on the norm of the weights' gradients. The scores have a bound of their own.
        gradient_accumulation: Batches per optimiser step.
        group_by_length: Batch examples of like length together: less padding, but batches in runs from long to short.
        precision: `float32`, or `bfloat16` or `float16` mixed precision.
        checkpoint_every: Steps between two checkpoints, from which a killed run goes on. 0: none.
        looks: How many times the gates' state is written to the record.
    """

    epochs: float | None = None
    batch_size: int = 32
    lr: float = 2e-5
    schedule: str = "linear"
    warmup: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_accumulation: int = 1
    group_by_length: bool = True
    precision: str = "float32"
    checkpoint_every: int = 500
    looks: int = 20

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise BadRecipe(f"Got precision '{self.precision}'. Valid choices: {', '.join(PRECISIONS)}.")
        for name, least in {
            "batch_size": 1,
            "gradient_accumulation": 1,
            "checkpoint_every": 0,
            "looks": 1,
        }.items():
            if getattr(self, name) < least:
                raise BadRecipe(f"Got {name} {getattr(self, name)}. Give {least} or more.")
        if self.schedule not in {str(each.value) for each in SchedulerType}:
            raise BadRecipe(
                f"Unknown schedule '{self.schedule}'. Valid: {', '.join(each.value for each in SchedulerType)}."
            )
        if not 0 <= self.warmup <= 1 or self.weight_decay < 0:
            raise BadRecipe(
                "'warmup' is a share of the steps, from 0 to 1, and 'weight_decay' is not negative; got "
                f"{self.warmup} and {self.weight_decay}."
            )
        if self.lr <= 0 or (self.epochs is not None and self.epochs <= 0):
            raise BadRecipe(f"Learning rate and epochs must be positive, got lr {self.lr} and epochs {self.epochs}.")


@dataclass
class Workbench:
    """What a method works on: a model, the task's training data, and the settings; it keeps the books.

    Attributes:
        model: The model, in place.
        data: Tokenised training examples, with a `length` column.
        collator: Makes batches of them.
        settings: How to train.
        seed: Of the data order, dropout, gates and their noise.
        directory: Where checkpoints go. None: none are written.
        trained: Whether the model has been trained on the task.
        costs: Per stage: optimiser steps and seconds.
        dynamics: What was seen during training.
    """

    model: Any
    data: Dataset
    collator: Any
    settings: TrainingSettings
    seed: int = 0
    directory: Path | None = None
    trained: bool = False
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    dynamics: list[dict[str, Any]] = field(default_factory=list)

    @property
    def epochs(self) -> float:
        """Epochs of a training."""
        return 3.0 if self.settings.epochs is None else self.settings.epochs

    @property
    def steps(self) -> int:
        """Optimiser steps of a training, on all processes together."""
        processes = int(os.environ.get("WORLD_SIZE", "1"))  # set by torchrun and accelerate, before anything starts
        batches = ceil(len(self.data) / (self.settings.batch_size * processes))
        return max(1, ceil(self.epochs * ceil(batches / self.settings.gradient_accumulation)))

    def train(self, gates: Gates | None = None, stage: str = "training") -> None:
        """Train the model, with the gates if there are any; go on from the last checkpoint if there is one."""
        start = time.perf_counter()
        directory = None if self.directory is None else self.directory / stage
        trainer = GatedTrainer(
            model=self.model,
            args=_arguments(self, directory),
            train_dataset=self.data,
            data_collator=self.collator,
            gates=gates,
        )
        trainer.train(resume_from_checkpoint=_last_checkpoint(directory))
        # Mixed precision wraps the model's forward pass for good; here it ends with the training.
        trainer.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.model.eval()
        self.trained = True
        self.dynamics += [{"stage": stage, **look} for look in trainer.state.log_history if "loss" in look]
        self.costs[stage] = {"steps": trainer.state.global_step, "seconds": time.perf_counter() - start}

    def train_if_needed(self) -> None:
        """Train a model that has not been trained on the task, or when epochs are asked for."""
        if not self.trained or self.settings.epochs is not None:
            self.train()

    def batches(self, examples: int | None = None) -> Iterator[Mapping[str, Tensor]]:
        """Batches with labels on the model's device, by length: all training examples, or n drawn by the seed."""
        chosen = np.arange(len(self.data))
        if examples is not None:
            chosen = np.random.default_rng(self.seed).permutation(chosen)[:examples]
        rows = self.data.select(chosen.tolist(), keep_in_memory=True)
        rows = rows.select(np.argsort(rows["length"], kind="stable").tolist(), keep_in_memory=True)
        device = next(self.model.parameters()).device
        for start in range(0, len(rows), self.settings.batch_size):
            batch = self.collator([rows[i] for i in range(start, min(start + self.settings.batch_size, len(rows)))])
            yield {name: value.to(device) for name, value in batch.items()}


def _last_checkpoint(directory: Path | None) -> str | None:
    """The newest checkpoint that was written to its end. The Trainer writes its state file last of all."""
    if directory is None or not directory.is_dir():
        return None
    whole = [path for path in directory.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def _arguments(bench: Workbench, directory: Path | None) -> TrainingArguments:
    settings = bench.settings
    saves = directory is not None and settings.checkpoint_every > 0
    arguments = TrainingArguments(
        output_dir=str(directory or Path(tempfile.gettempdir()) / "headcount-writes-nothing-here"),
        num_train_epochs=bench.epochs,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.lr,
        lr_scheduler_type=settings.schedule,
        warmup_steps=ceil(settings.warmup * bench.steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.precision == "bfloat16",
        fp16=settings.precision == "float16",
        use_cpu=next(bench.model.parameters()).device.type == "cpu" and not torch.accelerator.is_available(),
        seed=bench.seed,
        train_sampling_strategy="group_by_length" if settings.group_by_length else "random",
        length_column_name="length",
        save_strategy="steps" if saves else "no",
        save_steps=settings.checkpoint_every or 500,
        save_total_limit=1,
        logging_steps=max(1, bench.steps // settings.looks),
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to="none",
    )
    # Several GPUs in one process would be torch's DataParallel, whose threads share one draw of gates badly; one
    # process a GPU (torchrun, accelerate launch) is faster anyway.
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


class GatedTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """A Trainer whose model may have gates: their penalty joins the loss, and they step after the optimiser."""

    def __init__(self, *args: Any, gates: Gates | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gates = gates
        # A classifier's loss is a mean over its batch, whatever keywords its forward pass takes: the Trainer has to
        # divide it by the number of batches that it accumulates.
        self.model_accepts_loss_kwargs = False
        self.remove_callback(PrinterCallback)
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(_Bar)
        if gates is not None:
            self.add_callback(_StepGates(self, gates))

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """The Trainer's log with the gates' state in it: it is kept in checkpoints, so a resumed run has all of it."""
        super().log(logs | (self.gates.watch() if self.gates is not None and "loss" in logs else {}), start_time)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        """The model's loss plus the gates' penalty."""
        result = super().compute_loss(model, inputs, return_outputs=return_outputs, **kwargs)
        if self.gates is None or not model.training:
            return result
        loss, *rest = result if return_outputs else (result,)
        loss = loss + self.gates.penalty().to(loss.device, loss.dtype)
        return (loss, *rest) if return_outputs else loss


class _StepGates(TrainerCallback):  # type: ignore[misc]
    """Moves the gates' scores with each optimiser step, at the share of their learning rate that the schedule is at."""

    def __init__(self, trainer: Trainer, gates: Gates) -> None:
        self.trainer, self.gates, self.grad_scale = trainer, gates, 1.0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        scaler = getattr(self.trainer.accelerator, "scaler", None)
        self.grad_scale = 1.0 if scaler is None else scaler.get_scale()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        lr = kwargs["optimizer"].param_groups[0]["lr"]
        self.gates.step(lr_scale=float(lr) / args.learning_rate, grad_scale=self.grad_scale)


class _Bar(ProgressCallback):  # type: ignore[misc]
    """The Trainer's progress bar, which else prints every log to standard output: a command's own output goes there."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if self.training_bar is not None and "loss" in (logs or {}):
            self.training_bar.set_postfix(loss=f"{float(logs['loss']):.3f}")
