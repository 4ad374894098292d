"""Hugging Face's Trainer with gates.

Progress bars, mixed precision, checkpoints and resuming, `accelerate launch` and `torchrun` are the Trainer's own. All
that is added: gates that step after the optimiser, weights that can be frozen, and a stretch of a schedule.
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
    """A Trainer for a stage of a method.

    Args:
        sampler: The order of the examples.
        during: What happens during the stage; its gates are the model's.
        frozen: Leave the weights alone; only gates learn.
        first: The step of the schedule at which the stage begins.
        total: Steps of the whole schedule.
        moments: What an Adam that goes on knows: per parameter's name its state.
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
            # Nothing is left for DDP to average, which is an error to it; on GPUs accelerate sees to that itself.
            self.accelerator.prepare_model = lambda model, *_, **__: model
        self._anchor = torch.zeros((), requires_grad=True, device=self.args.device)
        # A classifier's loss is a mean over its batch, whatever keywords its forward pass takes: the Trainer has to
        # divide it by the number of batches that it accumulates.
        self.model_accepts_loss_kwargs = False
        self.during = during
        self.remove_callback(PrinterCallback)
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(ProgressBar)
        self.add_callback(during)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[Any]:
        return self.sampler

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model; into a checkpoint also what is kept, before the state file that says it is whole."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and output_dir is not None and self.is_world_process_zero():
            self.during.keeper.save(output_dir)

    def create_optimizer(self, model: Any = None) -> Any:
        """The Trainer's own; with frozen weights, one that moves nothing but carries the schedule."""
        if self.frozen:
            self.optimizer = torch.optim.SGD([self._anchor], lr=self.args.learning_rate)
            return self.optimizer
        optimizer = super().create_optimizer(model)
        moments, steps_on_device = self.moments or {}, bool(optimizer.defaults.get("fused"))
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and name in moments:  # matrices of nothing are in no group
                optimizer.state[parameter] = {
                    key: value.to(parameter.device if key != "step" or steps_on_device else "cpu", copy=True)
                    for key, value in moments[name].items()
                }
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule of the whole training, from the step at which this stage begins."""
        optimizer = self.optimizer if optimizer is None else optimizer
        whole = get_scheduler(
            self.args.lr_scheduler_type,
            optimizer,
            num_warmup_steps=self.args.get_warmup_steps(self.total),
            num_training_steps=self.total,
            scheduler_specific_kwargs=self.args.lr_scheduler_kwargs,
        )
        if self.first:
            assert isinstance(whole, LambdaLR)  # as all that TrainingSettings admits
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"]
            whole = LambdaLR(optimizer, [_later(each, self.first) for each in whole.lr_lambdas])
        self.lr_scheduler = whole
        return whole

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        """The model's loss. With frozen weights it is tied to the optimiser's one parameter, without effect."""
        result = super().compute_loss(model, inputs, return_outputs=return_outputs, **kwargs)
        if not self.frozen:
            return result
        return (result[0] + 0 * self._anchor, result[1]) if return_outputs else result + 0 * self._anchor

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One pass and its gradients. With frozen weights, loss scaling is shown the overflows of the gates' gradients.

        It finds its scale by the optimiser's own gradients, and the one parameter there never overflows: the scale
        would only ever rise.
        """
        loss: Tensor = super().training_step(*args, **kwargs)
        scaled = getattr(self.accelerator, "scaler", None) is not None
        if self.frozen and scaled and self.during.gates is not None and self.during.gates.overflowed:
            self._anchor.grad = torch.full_like(self._anchor, torch.inf)
        return loss

    def load(self, checkpoint: str) -> None:
        """Take up a checkpoint of a stage that is over."""
        self._load_from_checkpoint(checkpoint)
        self.state = TrainerState.load_from_json(f"{checkpoint}/trainer_state.json")

    def learn(self, checkpoint: str | None) -> None:
        """Train, from a checkpoint if there is one; weights that are frozen need no gradients meanwhile."""
        trainable = [p for p in self.model.parameters() if p.requires_grad] if self.frozen else []
        for parameter in trainable:
            parameter.requires_grad = False
        try:
            self.train(resume_from_checkpoint=checkpoint)
        finally:
            for parameter in trainable:
                parameter.requires_grad = True

    def looks(self, stage: str) -> list[dict[str, Any]]:
        """What was seen at each log, as a record holds it."""
        found = [look for look in self.state.log_history if "loss" in look]
        return [{"stage": stage, **{name: look[name] for name in look if name != "epoch"}} for look in found]

    def adam(self) -> dict[str, dict[str, Tensor]]:
        """What Adam knows of each parameter, by its name."""
        state = self.optimizer.state
        return {name: dict(state[p]) for name, p in self.model.named_parameters() if p in state}


def _later(schedule: Callable[[int], float], first: int) -> Callable[[int], float]:
    """A schedule from a later step on. It is a function: what an object holds would be in checkpoints, unreadably."""

    def later(step: int) -> float:
        return float(schedule(step + first))

    return later


def arguments_for(
    settings: TrainingSettings, directory: Path | None, steps: int, total: int, seed: int, device: torch.device
) -> TrainingArguments:
    """The Trainer's arguments for a stage of so many steps, of a schedule of `total`."""
    saves = directory is not None and settings.checkpoint_every > 0
    arguments = TrainingArguments(
        output_dir=str(directory or Path(tempfile.gettempdir()) / "headcount-writes-nothing-here"),
        num_train_epochs=1,  # the sampler gives the whole stage as one stream
        per_device_train_batch_size=settings.batch_size if settings.batch_tokens is None else 1,  # of whole batches
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.lr,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup if isinstance(settings.warmup, int) else ceil(settings.warmup * total),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        adam_beta2=settings.adam_beta2,
        remove_unused_columns=False,  # collators take what they need
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
    # Several GPUs in one process would share one draw of gates badly (DataParallel); torchrun is faster anyway.
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments
