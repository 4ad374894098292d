"""Hugging Face's Trainer with gates.

Progress bars, mixed precision, checkpoints, resuming, `accelerate launch` and `torchrun` come from the Trainer. This
module adds gates that step after the optimiser, frozen weights, and stages of a longer schedule.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping
from math import ceil
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Sampler
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerState,
    TrainingArguments,
)
from transformers.optimization import get_scheduler

from headcount.settings.training import TrainingSettings
from headcount.training.callbacks import ProgressBar, StageCallback


class GatedTrainer(Trainer):  # type: ignore[misc]
    """A Trainer for one stage of a training.

    Args:
        sampler: The order of the examples.
        during: The callback of the stage, with the model's gates.
        frozen: Freeze the weights, so that only gates learn.
        first: The step of the schedule at which the stage begins.
        total: Steps of the whole schedule.
        moments: Adam's initial state, by parameter name. None: a fresh state.
    """

    def __init__(
        self,
        *args: Any,
        sampler: Sampler[Any],
        during: StageCallback,
        frozen: bool,
        first: int,
        total: int,
        moments: Mapping[str, Mapping[str, Tensor]] | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.sampler, self.frozen, self.first, self.total, self.moments = sampler, frozen, first, total, moments
        if frozen and self.accelerator.distributed_type == DistributedType.MULTI_CPU:
            # DDP raises an error if no parameter needs a gradient. On GPUs accelerate handles this itself.
            self.accelerator.prepare_model = lambda model, *_, **__: model
        self._anchor = torch.zeros((), requires_grad=True, device=self.args.device)
        # A classifier's loss is a mean over its batch, whatever keywords its forward pass takes. The Trainer must
        # divide it by the number of accumulated batches.
        self.model_accepts_loss_kwargs = False
        self.during = during
        self.remove_callback(PrinterCallback)
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(ProgressBar)
        self.add_callback(during)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[Any]:
        return self.sampler

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model. A checkpoint also gets the kept weights, before the state file that marks it complete."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and output_dir is not None and self.is_world_process_zero():
            self.during.keeper.save(output_dir)

    def create_optimizer(self, model: Any = None) -> Any:
        """Make the Trainer's optimiser. With frozen weights, make one that only carries the schedule."""
        if self.frozen:
            self.optimizer = torch.optim.SGD([self._anchor], lr=self.args.learning_rate)
            return self.optimizer
        optimizer = super().create_optimizer(model)
        moments, steps_on_device = self.moments or {}, bool(optimizer.defaults.get("fused"))
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and name in moments:  # empty matrices are in no group
                optimizer.state[parameter] = {
                    key: value.to(parameter.device if key != "step" or steps_on_device else "cpu", copy=True)
                    for key, value in moments[name].items()
                }
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Make the schedule of the whole training, from the first step of this stage."""
        optimizer = self.optimizer if optimizer is None else optimizer
        whole = get_scheduler(
            self.args.lr_scheduler_type,
            optimizer,
            num_warmup_steps=self.args.get_warmup_steps(self.total),
            num_training_steps=self.total,
            scheduler_specific_kwargs=self.args.lr_scheduler_kwargs,
        )
        if self.first:
            assert isinstance(whole, LambdaLR)  # true of all schedules in TrainingSettings
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"]
            whole = LambdaLR(optimizer, [_later(each, self.first) for each in whole.lr_lambdas])
        self.lr_scheduler = whole
        return whole

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        """Return the model's loss. With frozen weights, add the optimiser's one parameter with a factor of 0."""
        result = super().compute_loss(model, inputs, return_outputs=return_outputs, **kwargs)
        if not self.frozen:
            return result
        return (result[0] + 0 * self._anchor, result[1]) if return_outputs else result + 0 * self._anchor

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Do a forward and backward pass. With frozen weights, report overflows of gates' gradients to loss scaling.

        Loss scaling checks the gradients of the optimiser's parameters. The one parameter there never overflows, so
        the scale would only rise.
        """
        loss: Tensor = super().training_step(*args, **kwargs)
        scaled = getattr(self.accelerator, "scaler", None) is not None
        if self.frozen and scaled and self.during.gates is not None and self.during.gates.overflowed:
            self._anchor.grad = torch.full_like(self._anchor, torch.inf)
        return loss

    def load(self, checkpoint: str) -> None:
        """Load a checkpoint of a finished stage."""
        self._load_from_checkpoint(checkpoint)
        self.state = TrainerState.load_from_json(f"{checkpoint}/trainer_state.json")

    def learn(self, checkpoint: str | None) -> None:
        """Train, from a checkpoint if given. Frozen weights get no gradients during the training."""
        trainable = [p for p in self.model.parameters() if p.requires_grad] if self.frozen else []
        for parameter in trainable:
            parameter.requires_grad = False
        try:
            self.train(resume_from_checkpoint=checkpoint)
        finally:
            for parameter in trainable:
                parameter.requires_grad = True

    def looks(self, stage: str) -> list[dict[str, Any]]:
        """Return the evaluations of the stage, in the format of a record."""
        found = [look for look in self.state.log_history if "loss" in look]
        return [{"stage": stage, **{name: look[name] for name in look if name != "epoch"}} for look in found]

    def adam(self) -> dict[str, dict[str, Tensor]]:
        """Return Adam's state for each parameter, by name."""
        state = self.optimizer.state
        return {name: dict(state[p]) for name, p in self.model.named_parameters() if p in state}


def _later(schedule: Callable[[int], float], first: int) -> Callable[[int], float]:
    """Return a schedule from a later step on: a function, since checkpoints would pickle an object's attributes."""

    def later(step: int) -> float:
        return float(schedule(step + first))

    return later


def arguments_for(
    settings: TrainingSettings, directory: Path | None, steps: int, total: int, seed: int, device: torch.device
) -> TrainingArguments:
    """Return the Trainer's arguments for a stage of `steps` steps in a schedule of `total` steps."""
    saves = directory is not None and settings.checkpoint_every > 0
    arguments = TrainingArguments(
        output_dir=str(directory or Path(tempfile.gettempdir()) / "headcount-writes-nothing-here"),
        num_train_epochs=1,  # the sampler gives the whole stage as one stream
        per_device_train_batch_size=settings.batch_size if settings.batch_tokens is None else 1,  # each item is a batch
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.lr,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup if isinstance(settings.warmup, int) else ceil(settings.warmup * total),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        adam_beta2=settings.adam_beta2,
        remove_unused_columns=False,  # collators select their columns
        bf16=settings.precision == "bfloat16",
        fp16=settings.precision == "float16",
        use_cpu=device.type == "cpu" and not torch.accelerator.is_available(),
        seed=seed,
        save_strategy="steps" if saves else "no",
        save_steps=settings.checkpoint_every or 500,
        save_total_limit=1,
        logging_steps=settings.look_every or ceil(steps / settings.looks),
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to="none",
    )
    # Threads of several GPUs in one process (DataParallel) cannot share a draw of gates. torchrun is faster anyway.
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments
