"""A callback that prunes the model of any `transformers.Trainer`."""

from collections.abc import Mapping
from typing import Any

from accelerate.utils import extract_model_from_parallel
from torch import Tensor
from transformers import TrainerControl, TrainerState, TrainingArguments

from headcount.anatomy import whole_model
from headcount.anatomy.example import random_inputs
from headcount.errors import BadRecipe
from headcount.gates.trainable import GATES_NAME, Gates, attach, detach
from headcount.methods import METHODS, method
from headcount.methods.facts import Method
from headcount.surgery.cut import remove_heads
from headcount.surgery.selfcheck import first_outputs
from headcount.training.callbacks import GatesCallback
from headcount.units.map import Subset


class PruningCallback(GatesCallback):
    """Prunes the model of any `transformers.Trainer`: `Trainer(..., callbacks=[PruningCallback(...)])`.

    The callback attaches gates when the Trainer is made. Checkpoints therefore hold the gates, and a resumed training
    continues with them. The method's schedules run over the Trainer's steps. Evaluations measure the hard subset. At
    the end of training the callback removes the gates and the heads outside the subset. `trainer.save_model()` then
    writes a pruned model.

    Args:
        method: A method that learns while the model trains: its name in `METHODS`, or an instance with options.
        keep: The budget: a number of heads, or a fraction.
        sites: The kind of attention that the budget covers. None: all.
        unit: See `Budget`.
        seed: Seed of the gates' scores and noise.
        cut: Whether to remove the heads at the end. If False, call `remove_heads(model, callback.subset)` yourself.
        example: A batch for the self-check of `remove_heads`, as keyword arguments of the model. The callback tries it
            when the Trainer is made.

    With gradient accumulation, set `model.accepts_loss_kwargs = False` before making the Trainer of a classifier.
    Otherwise the Trainer expects the model to divide its loss by the number of batches, and a classifier does not.
    The scores' gradients are then that many times too large, beside an unscaled penalty (Voita's lambda) and clip.

    Raises:
        BadRecipe: The method does not learn in one training. From the Trainer: it has several GPUs in one process,
            or resumes from a checkpoint that was loaded without gates.
        UnsupportedModel: From the Trainer: see `attach`, or the model cannot run the batch of the self-check.
    """

    def __init__(
        self,
        method: str | Method,
        keep: int | float,
        *,
        sites: str | None = None,
        unit: str = "group",
        seed: int = 0,
        cut: bool = True,
        example: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.method, self.keep, self.sites, self.unit = _learning(method), keep, sites, unit
        self.seed, self.cut, self.example = seed, cut, example
        self._subset: Subset | None = None

    @property
    def subset(self) -> Subset:
        """The kept heads: the current subset during training, the final subset afterwards.

        Raises:
            BadRecipe: No Trainer has this callback yet.
        """
        if self.gates is not None:
            return self.gates.subset()
        if self._subset is None:
            raise BadRecipe("No subset yet: hand this callback to a Trainer, and call its train().")
        return self._subset

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Attach gates to the Trainer's model."""
        if args.n_gpu > 1:
            raise BadRecipe(
                f"The Trainer would spread each batch over {args.n_gpu} GPUs in one process, whose threads would share "
                "one draw of the gates. Start one process a GPU (torchrun, accelerate launch), or let it see one GPU "
                "(CUDA_VISIBLE_DEVICES=0)."
            )
        if self.cut:  # fail before the training if the self-check cannot run
            whole = whole_model(kwargs["model"])
            first_outputs(whole, random_inputs(whole) if self.example is None else self.example)
        relaxation = self.method.relaxation(self.keep, 10**9)  # `on_train_begin` sets the true number of steps
        self.gates = attach(kwargs["model"], relaxation, sites=self.sites, unit=self.unit, seed=self.seed)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the method's schedules to the Trainer's number of steps."""
        here: Gates | None = getattr(whole_model(kwargs["model"]), GATES_NAME, None)
        if here is None or here is not self.gates or (here.draws and not state.global_step):
            detach(kwargs["model"])  # the Trainer has a new model (model_init), or trains again from step 0
            self.on_init_end(args, state, control, **kwargs)
        assert self.gates is not None
        if self.gates.steps != state.global_step:
            raise BadRecipe(
                f"The training goes on from step {state.global_step}, but its gates are at step {self.gates.steps}: "
                "the checkpoint was loaded without them. Hand the callback over when the Trainer is made, with its "
                "model (not model_init, which makes another): Trainer(model, ..., callbacks=[...])."
            )
        self.gates.relaxation = self.method.relaxation(self.keep, state.max_steps)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remove the gates, and the heads outside the subset."""
        if self.gates is not None:
            self.gates.warn_if_early()
        self._subset, self.gates = self.subset, None
        # Mixed precision leaves its wrapper on the forward pass. Surgery compares in the model's own precision.
        model = extract_model_from_parallel(kwargs["model"], keep_fp32_wrapper=False)
        detach(model)
        if self.cut:
            before = {id(parameter): name for name, parameter in model.named_parameters()}
            remove_heads(model, self._subset, example=self.example)
            _follow(kwargs.get("optimizer"), before, model)


def _follow(optimizer: Any, before: Mapping[int, str], model: Any) -> None:
    """Give the optimiser the parameters that surgery replaced. A Trainer that trains again reuses its optimiser."""
    if optimizer is None:
        return
    now = dict(model.named_parameters())
    for group in optimizer.param_groups:
        here = [now.get(before[id(each)]) if id(each) in before else each for each in group["params"]]
        group["params"] = [each for each in here if each is not None and each.numel()]
    # The state of a replaced parameter does not fit the new parameter.
    for parameter in [each for each in optimizer.state if id(each) in before]:
        if now.get(before[id(parameter)]) is not parameter:
            del optimizer.state[parameter]


def _learning(given: str | Method) -> Method:
    found = method(given) if isinstance(given, str) else given
    if not (isinstance(found, Method) and _in_one_training(type(found))):
        names = [name for name, kind in METHODS.items() if _in_one_training(kind)]
        raise BadRecipe(
            f"Got {given!r}, which does not learn while a model trains. A callback takes: {', '.join(names)}. The "
            "other methods train, score and rewind by themselves: headcount.run_recipe, or headcount prune."
        )
    found.relaxation(0, 10**9)  # fail now if one training cannot follow an option
    return found


def _in_one_training(kind: type[Method]) -> bool:
    return kind.paradigm == "joint" and kind.learns_by_gates
