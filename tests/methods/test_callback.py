"""Pruning in a Trainer of the user's own: budget met, resumable, saved as a pruned model; other methods refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import (
    Adafactor,
    AutoModelForSequenceClassification,
    BertForMultipleChoice,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.optimization import AdafactorSchedule

import headcount
from families import checkpointing, tiny
from headcount.anatomy.example import random_inputs
from headcount.errors import BadRecipe, UnsupportedModel
from headcount.gates.trainable import GATES_NAME
from headcount.methods import METHODS
from headcount.methods.callback import PruningCallback
from headcount.methods.dsp_joint import DSPJoint
from headcount.methods.gradual import Gradual
from headcount.methods.voita import Voita

METHODS_HERE = [DSPJoint(), "ste", Voita(lambda_=0.01), Gradual()]


def trainer(model: Any, directory: Path, callback: PruningCallback, **settings: Any) -> Trainer:
    inputs = random_inputs(model, batch=24)
    data = Dataset.from_dict({**{name: value.tolist() for name, value in inputs.items()}, "labels": [0, 1, 2] * 8})
    arguments = TrainingArguments(
        output_dir=str(directory), num_train_epochs=2, per_device_train_batch_size=4, learning_rate=1e-3,
        report_to="none", use_cpu=True, disable_tqdm=True,
        **{"logging_steps": 4, "save_strategy": "no", "eval_strategy": "steps", "eval_steps": 6, **settings},
    )  # fmt: skip
    return Trainer(model, arguments, train_dataset=data, eval_dataset=data.select(range(6)), callbacks=[callback])


@pytest.mark.parametrize("method", METHODS_HERE, ids=lambda method: getattr(method, "__class__", method).__name__)
@pytest.mark.parametrize("settings", [{}, {"bf16": True}, {"gradient_accumulation_steps": 3}], ids=str)
def test_a_trainer_prunes(method: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    model, callback = tiny("bert"), PruningCallback(method, keep=5)
    with pytest.raises(BadRecipe, match="No subset yet"):
        callback.subset  # noqa: B018
    mine = trainer(model, tmp_path, callback, **settings)
    assert len(callback.subset) == 5  # as of now
    mine.train()
    assert headcount.present(model) == callback.subset and len(callback.subset) == 5
    assert not hasattr(model, GATES_NAME)
    looks = [entry for entry in mine.state.log_history if "kept" in entry]
    assert looks and looks[-1]["step"] == mine.state.max_steps and looks[-1]["dropped_gradients"] == 0
    mine.save_model(str(tmp_path / "small"))
    inputs = random_inputs(model)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "small")
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, model.eval()(**inputs).logits)


def test_a_trainer_that_trains_again_trains_all_that_is_left(tmp_path: Path) -> None:
    """Its optimiser is that of the first training; surgery has put parameters in the place of others since."""
    model, callback = tiny("bert"), PruningCallback("gradual", keep=5)
    mine = trainer(model, tmp_path, callback)
    mine.train()
    left, weights = callback.subset, {name: each.detach().clone() for name, each in model.named_parameters()}
    mine.train()
    assert callback.subset == left and len(left) == 5
    assert [n for n, each in model.named_parameters() if each.numel() and torch.equal(each, weights[n])] == []


def test_a_resumed_trainer_prunes_the_same(tmp_path: Path) -> None:
    finished = []
    for name, resume in (("straight", False), ("resumed", True)):
        directory = tmp_path / name
        saves = {"save_strategy": "steps", "save_steps": 5, "eval_strategy": "no"}
        if resume:
            trainer(tiny("bert"), directory, PruningCallback("dsp-joint", keep=5), **saves).train()
            resumed = str(directory / "checkpoint-5")
        callback = PruningCallback("dsp-joint", keep=5)
        model = tiny("bert", seed=9 if resume else 0)
        trainer(model, directory, callback, **saves).train(resume_from_checkpoint=resumed if resume else None)
        finished.append((callback.subset, model.state_dict()))
    (subset, weights), (again, others) = finished
    assert subset == again and all(torch.equal(weights[name], others[name]) for name in weights)


class Interrupt(TrainerCallback):  # type: ignore[misc]
    """Stops the first training at a step, as Ctrl-C does."""

    armed = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.armed and state.global_step == 8:
            raise KeyboardInterrupt


def test_a_training_that_begins_anew_has_schedules_that_do(tmp_path: Path) -> None:
    callback, interrupt = PruningCallback("dsp-joint", keep=5), Interrupt()
    mine = trainer(tiny("bert"), tmp_path, callback, logging_steps=1)
    mine.add_callback(interrupt)
    with pytest.raises(KeyboardInterrupt):
        mine.train()
    interrupt.armed = False
    mine.train()
    looks = [entry for entry in mine.state.log_history if "temperature" in entry]
    assert [look["step"] for look in looks] == [*range(1, 13)] and looks[0]["temperature"] > 10
    assert len(headcount.present(mine.model)) == 5


@pytest.mark.parametrize(("at", "resume"), [(0, None), (6, "checkpoint-5")])
def test_passes_that_nobody_went_back_through_are_forgotten(at: int, resume: str | None, tmp_path: Path) -> None:
    """A step that ran out of memory, or was interrupted, leaves a pass behind; the next training begins without it."""

    class Fails(Trainer):  # type: ignore[misc]
        armed = True

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            if self.armed and self.state.global_step == at:
                raise KeyboardInterrupt
            return loss

    saves = {"save_strategy": "steps", "save_steps": 5, "eval_strategy": "no"}
    like = trainer(tiny("bert"), tmp_path, PruningCallback("ste", keep=5), **saves)
    callback = PruningCallback("dsp-joint", keep=5)
    mine = Fails(checkpointing(tiny("bert")), like.args, train_dataset=like.train_dataset, callbacks=[callback])
    with pytest.raises(KeyboardInterrupt):
        mine.train()
    mine.armed = False
    mine.train(resume_from_checkpoint=None if resume is None else str(tmp_path / resume))
    assert len(headcount.present(mine.model)) == 5


def test_a_trainer_that_makes_its_model(tmp_path: Path) -> None:
    """It makes one to look at, and another to train."""
    callback, like = PruningCallback("gradual", keep=5), trainer(tiny("bert"), tmp_path, PruningCallback("ste", keep=5))
    mine = Trainer(
        None, like.args, model_init=lambda: tiny("bert"), train_dataset=like.train_dataset,
        eval_dataset=like.eval_dataset, callbacks=[callback],
    )  # fmt: skip
    mine.train()
    assert headcount.present(mine.model) == callback.subset and len(callback.subset) == 5


def test_a_callback_that_comes_after_the_checkpoint_is_refused(tmp_path: Path) -> None:
    saves = {"save_strategy": "steps", "save_steps": 5, "eval_strategy": "no"}
    trainer(tiny("bert"), tmp_path, PruningCallback("gradual", keep=5), **saves).train()
    late = trainer(tiny("bert"), tmp_path, PruningCallback("gradual", keep=5), **saves)
    late.pop_callback(PruningCallback)
    headcount.detach(late.model)
    late.add_callback(PruningCallback("gradual", keep=5))
    with pytest.raises(BadRecipe, match="goes on from step 5, but its gates are at step 0"):
        late.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))


def test_what_the_end_needs_is_asked_at_the_beginning(tmp_path: Path) -> None:
    """Surgery's check has to make up a batch, which it cannot for every class."""
    model = BertForMultipleChoice(tiny("bert").config)
    rows = {"input_ids": torch.randint(5, 30, (8, 3, 6)).tolist(), "labels": [0, 1, 2, 0] * 2}
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, report_to="none", use_cpu=True,
        disable_tqdm=True, save_strategy="no",
    )  # fmt: skip

    def make(callback: PruningCallback) -> Trainer:
        return Trainer(model, arguments, train_dataset=Dataset.from_dict(rows), callbacks=[callback])

    with pytest.raises(UnsupportedModel, match="cannot run the check's batch .* example="):
        make(PruningCallback("ste", keep=5))
    make(PruningCallback("ste", keep=5, example={"input_ids": torch.randint(5, 30, (2, 3, 6))})).train()
    assert len(headcount.present(model)) == 5


def test_several_gpus_in_one_process_are_refused(tmp_path: Path) -> None:
    arguments = TrainingArguments(str(tmp_path), use_cpu=True)
    arguments._n_gpu = 2
    with pytest.raises(BadRecipe, match="over 2 GPUs in one process"):
        PruningCallback("ste", keep=5).on_init_end(arguments, TrainerState(), TrainerControl(), model=tiny("bert"))


def test_the_scores_of_an_optimiser_that_makes_its_rate_itself(tmp_path: Path) -> None:
    """Adafactor's relative steps have no peak; the scores are at theirs."""
    model, callback = tiny("bert"), PruningCallback(Voita(lambda_=1e9, scores_clip=1e12), keep=5, cut=False)
    mine = trainer(model, tmp_path, callback, max_steps=3)
    optimizer = Adafactor(model.parameters(), scale_parameter=True, relative_step=True, warmup_init=True, lr=None)
    mine.optimizer, mine.lr_scheduler = optimizer, AdafactorSchedule(optimizer)
    gates = callback.gates
    assert gates is not None
    before = gates.scores.clone()
    mine.train()
    assert torch.allclose(before - gates.scores, torch.full((12,), 3 * 0.1, dtype=torch.float64), atol=1e-3)


def test_cutting_can_be_left_to_the_user(tmp_path: Path) -> None:
    model, callback = tiny("bert"), PruningCallback("gradual", keep=5, cut=False)
    trainer(model, tmp_path, callback).train()
    assert len(headcount.present(model)) == 12 and len(callback.subset) == 5


def test_the_penalty_joins_the_gradient_once(tmp_path: Path) -> None:
    """With a penalty next to which the loss is nothing, all scores fall by Adam's step: the learning rate."""
    callback = PruningCallback(Voita(lambda_=1e9, scores_clip=1e12), keep=5, cut=False)
    mine = trainer(tiny("bert"), tmp_path, callback, lr_scheduler_type="constant", max_steps=3)
    gates = callback.gates
    assert gates is not None
    before = gates.scores.clone()
    mine.train()
    assert torch.allclose(before - gates.scores, torch.full((12,), 3 * 0.1, dtype=torch.float64), atol=1e-3)


@pytest.mark.parametrize("method", ["michel", "lottery", "dsp-pipelined", "random", "unpruned"])
def test_other_methods_are_refused(method: str) -> None:
    with pytest.raises(BadRecipe, match="A callback takes: dsp-joint, dsp-joint-short, gradual, ste, voita"):
        PruningCallback(method, keep=5)


def test_bad_options_are_known_at_once() -> None:
    with pytest.raises(BadRecipe, match="Give lambda as a number"):
        PruningCallback("voita", keep=5)
    with pytest.raises(BadRecipe, match="Unknown method 'magic'"):
        PruningCallback("magic", keep=5)
    with pytest.raises(BadRecipe, match="need examples that are held out"):
        PruningCallback(DSPJoint(start_from="magnitude"), keep=5)
    assert {"dsp-joint", "ste", "voita", "gradual"} <= set(METHODS)


def test_annealing_longer_than_the_training(tmp_path: Path) -> None:
    callback = PruningCallback(DSPJoint(cooldown=25_000), keep=5)
    with pytest.raises(BadRecipe, match="'cooldown' is 25000, which is 25000 steps, but the training has 12"):
        trainer(tiny("bert"), tmp_path, callback).train()
    behind = PruningCallback(DSPJoint(cooldown=10, unpruned=4), keep=5)
    with pytest.raises(BadRecipe, match="but of the training's 12 steps 'unpruned' leaves 8"):
        trainer(tiny("bert"), tmp_path, behind).train()


def test_the_scores_follow_an_optimiser_of_the_users(tmp_path: Path) -> None:
    """Their rate is at the share of its peak that the user's own rate is at, whatever the arguments say."""
    model, callback = tiny("bert"), PruningCallback(Voita(lambda_=1e9, scores_clip=1e12), keep=5, cut=False)
    mine = trainer(model, tmp_path, callback, lr_scheduler_type="constant", max_steps=3)
    mine.optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    gates = callback.gates
    assert gates is not None
    before = gates.scores.clone()
    mine.train()
    assert torch.allclose(before - gates.scores, torch.full((12,), 3 * 0.1, dtype=torch.float64), atol=1e-3)
