"""Callbacks of a Trainer: for learned gates, for the events of a stage, and for the progress bar."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from headcount.gates.trainable import Gates
from headcount.training.final_weights import Keeper
from headcount.training.stage_files import Clock


class GatesCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Trains gates in any Trainer: it adds the gradient of their penalty, and steps them after the optimiser.

    The scores' learning rate is the same share of its peak as the Trainer's learning rate. At every log, the callback
    writes the gates' state to the Trainer's history. Checkpoints hold this history, so a resumed run has all of it.

    Args:
        gates: The gates on the Trainer's model, if any.
    """

    def __init__(self, gates: Gates | None = None) -> None:
        self.gates, self.grad_scale = gates, 1.0

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add the penalty's gradient to that of the loss, with the loss scale of mixed precision."""
        scaler = getattr(kwargs.get("optimizer"), "scaler", None)
        self.grad_scale = 1.0 if scaler is None else scaler.get_scale()
        if self.gates is not None and (penalty := self.gates.penalty()).requires_grad:
            torch.autograd.backward(penalty * self.grad_scale)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Step the gates."""
        if self.gates is not None:
            # A parameter group with a rate of 0, as for frozen embeddings, does not show the schedule.
            group = max(kwargs["optimizer"].param_groups, key=lambda each: _peak(each, args.learning_rate))
            peak, rate = _peak(group, args.learning_rate), group["lr"]
            own = rate is None or group.get("relative_step")  # Adafactor computes its own rate, without a peak
            share = 1.0 if own else min(1.0, float(rate) / peak) if peak else 0.0
            self.gates.step(lr_scale=share, grad_scale=self.grad_scale)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Log at the last step, whatever the logging interval."""
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Write the gates' state to the history."""
        if self.gates is not None and "loss" in (logs or {}):
            state.log_history[-1].update(self.gates.watch())


class StageCallback(GatesCallback):
    """Trains gates, evaluates the model, keeps weights and writes costs during a stage, in this order.

    Args:
        gates: The gates on the model, if any.
        measure: Returns the figures of the model with its hard subset. It is called at every log. None: no figures.
        keeper: Keeps the weights that the training ends with. The figures are those of its weights.
        clock: Writes the costs beside every checkpoint.
    """

    def __init__(
        self, gates: Gates | None, measure: Callable[[Any], Mapping[str, float]] | None, keeper: Keeper, clock: Clock
    ) -> None:
        super().__init__(gates)
        self.measure, self.keeper, self.clock = measure, keeper, clock

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Log at the last step, and update the average of the weights."""
        super().on_step_end(args, state, control, **kwargs)
        self.keeper.follow(kwargs["model"], state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log the gates, evaluate the model, and let the keeper compare. The keeper may end the training."""
        if "loss" not in (logs or {}):
            return
        super().on_log(args, state, control, logs, **kwargs)
        figures: dict[str, float] = {}
        if self.measure is not None:
            with self.keeper.smoothed(kwargs["model"]):
                figures = dict(self.measure(kwargs["model"]))
            state.log_history[-1]["development"] = figures
        if self.keeper.look(kwargs["model"], figures):
            control.should_training_stop = True
            control.should_save = args.save_strategy == "steps"

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Write the costs so far."""
        if state.is_world_process_zero:
            self.clock.write()


def _peak(group: Mapping[str, Any], usual: float) -> float:
    """Return the peak learning rate of a parameter group: as its scheduler stores it, or else `usual`."""
    known = [group.get(name) for name in ("max_lr", "initial_lr")]
    return float(next((each for each in known if each is not None), usual))


class ProgressBar(ProgressCallback):  # type: ignore[misc]
    """The Trainer's progress bar, without logs on standard output. Standard output is for a command's results."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Show the loss on the bar."""
        if self.training_bar is not None and logs is not None and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{float(logs['loss']):.3f}")
