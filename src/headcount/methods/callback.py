"""Pruning in a Trainer of the user's own."""

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
    """Lets any `transformers.Trainer` prune the model that it trains: `Trainer(..., callbacks=[PruningCallback(...)])`.

    Gates are put on the model when the Trainer is made, so that its checkpoints hold them and a resumed training goes
    on with them; the method's schedules run over the Trainer's steps. When the training ends, the gates come off and
    the heads that lost are removed: what `trainer.save_model()` writes then is a pruned model. Evaluations on the way
    measure the hard subset.

    Args:
        method: A method that learns while the model trains: its name in `METHODS`, or itself with its options.
        keep: The budget: a number of heads, or a fraction.
        sites: The kind of attention that the budget is over; None: all.
        unit: See `Budget`.
        seed: Of the gates' scores and noise.
        cut: Whether to remove the heads at the end. False leaves that to you: `remove_heads(model, callback.subset)`.
        example: A batch for the check of that, as keyword arguments of the model; see `remove_heads`. It is tried when
            the Trainer is made.

    With gradient accumulation the Trainer leaves it to the model to divide its loss by the number of batches, and a
    classifier's does not: set `model.accepts_loss_kwargs = False` before making the Trainer. The scores' gradients are
    else so many times as large, beside a penalty that is not (Voita's lambda) and a clip that is not.

    Raises:
        BadRecipe: The method is none that learns in one training. From the Trainer: it has several GPUs in one process,
            or goes on from a checkpoint that was loaded without gates.
        UnsupportedModel: From the Trainer: see `attach`; or the check has no batch that the model can run.
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
        """The kept heads: as of now while the training runs, finally once it is over.

        Raises:
            BadRecipe: No Trainer has taken up this callback yet.
        """
        if self.gates is not None:
            return self.gates.subset()
        if self._subset is None:
            raise BadRecipe("No subset yet: hand this callback to a Trainer, and call its train().")
        return self._subset

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put gates on the Trainer's model."""
        if args.n_gpu > 1:
            raise BadRecipe(
                f"The Trainer would spread each batch over {args.n_gpu} GPUs in one process, whose threads would share "
                "one draw of the gates. Start one process a GPU (torchrun, accelerate launch), or let it see one GPU "
                "(CUDA_VISIBLE_DEVICES=0)."
            )
        if self.cut:  # that the check cannot be made is better known before the training
            whole = whole_model(kwargs["model"])
            first_outputs(whole, random_inputs(whole) if self.example is None else self.example)
        relaxation = self.method.relaxation(self.keep, 10**9)  # the schedule follows when the steps are known
        self.gates = attach(kwargs["model"], relaxation, sites=self.sites, unit=self.unit, seed=self.seed)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Fit the method's schedules to the Trainer's steps."""
        here: Gates | None = getattr(whole_model(kwargs["model"]), GATES_NAME, None)
        if here is None or here is not self.gates or (here.draws and not state.global_step):
            detach(kwargs["model"])  # the Trainer made another model (model_init), or begins anew with the one it has
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
        """Take the gates off, and remove the heads that lost."""
        if self.gates is not None:
            self.gates.warn_if_early()
        self._subset, self.gates = self.subset, None
        # Mixed precision wraps the forward pass for good, and surgery compares in the model's own precision.
        model = extract_model_from_parallel(kwargs["model"], keep_fp32_wrapper=False)
        detach(model)
        if self.cut:
            before = {id(parameter): name for name, parameter in model.named_parameters()}
            remove_heads(model, self._subset, example=self.example)
            _follow(kwargs.get("optimizer"), before, model)


def _follow(optimizer: Any, before: Mapping[int, str], model: Any) -> None:
    """Hand the optimiser the parameters that surgery made in place of others: a Trainer that trains again keeps it."""
    if optimizer is None:
        return
    now = dict(model.named_parameters())
    for group in optimizer.param_groups:
        here = [now.get(before[id(each)]) if id(each) in before else each for each in group["params"]]
        group["params"] = [each for each in here if each is not None and each.numel()]
    # What it knows of parameters that are gone does not fit those that replace them.
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
    found.relaxation(0, 10**9)  # an option that one training cannot do is better known now
    return found


def _in_one_training(kind: type[Method]) -> bool:
    return kind.paradigm == "joint" and kind.learns_by_gates
