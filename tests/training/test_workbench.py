"""Trainings by tokens, by steps and by stretches: what they see, how long they are, and that they can be resumed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from benches import ROWS, alike, bench, collate, recorded, rows_of, weights
from families import tiny
from headcount.data.order import BatchOrder
from headcount.errors import BadRecipe
from headcount.gates.relaxations import StraightThrough
from headcount.gates.trainable import attach
from headcount.methods import method
from headcount.settings.training import Stage, TrainingSettings
from headcount.training.callbacks import GatesCallback
from headcount.training.trainer import GatedTrainer
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from kills import Killed, kill_after

TOKENS = 60
Batch = list[Mapping[str, Any]]


def seen(on: Workbench) -> list[Batch]:
    """The batches that a workbench's collator makes from now on, as rows."""
    found: list[Batch] = []

    def look(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        found.append(list(rows))
        return collate(rows)

    on.collator = look
    return found


def whole_epoch(batches: Sequence[Batch]) -> bool:
    """Whether every row is there once."""
    key: Callable[[Any], Any] = lambda row: row["input_ids"]  # noqa: E731 a type for a name
    return sorted((row for batch in batches for row in batch), key=key) == sorted(ROWS, key=key)


def drawn(tokens: int, count: int, skip: int = 0, by_length: bool = True, seed: int = 0) -> list[Batch]:
    order = BatchOrder(ROWS["length"], tokens, seed, count, skip, by_length)
    return [[ROWS[i] for i in batch] for batch in order]


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"epochs": 1.0}, 3),
        ({"epochs": 2.0}, 6),
        ({"epochs": 0.5}, 2),
        ({"epochs": 0.01}, 1),
        ({"epochs": None}, 9),
        ({"epochs": 1.0, "batch_tokens": 1}, 6),
        ({"epochs": 1.0, "gradient_accumulation": 2}, 2),
        ({"epochs": 2.0, "gradient_accumulation": 2}, 3),
        ({"steps": 5}, 5),
        ({"steps": 5, "gradient_accumulation": 2}, 5),
    ],
    ids=str,
)
def test_steps_by_hand(settings: dict[str, Any], steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six rows of four tokens, two in a batch."""
    on = bench(rows=rows_of([4] * 6), **{"batch_tokens": 11, **settings})
    assert on.steps == steps
    if settings == {"epochs": 1.0}:
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert on.steps == 2


@pytest.mark.parametrize("by_length", [True, False])
def test_an_epoch_by_tokens(by_length: bool) -> None:
    on = bench(epochs=2.0, batch_tokens=TOKENS, gradient_accumulation=2, group_by_length=by_length)
    batches, epoch = seen(on), len(BatchOrder(ROWS["length"], TOKENS, 0, by_length=by_length).epoch(0))
    on.train()
    assert all(max(row["length"] for row in batch) * len(batch) <= TOKENS for batch in batches)
    assert whole_epoch(batches[:epoch]) and not whole_epoch(batches[: epoch - 1])
    assert batches == drawn(TOKENS, 2 * on.steps, by_length=by_length)
    assert on.costs["training"]["steps"] == on.steps == epoch


def test_a_training_by_steps() -> None:
    """Over the end of the epoch, and to the last batch full."""
    on = bench(steps=7)
    batches = seen(on)
    on.train()
    assert [len(batch) for batch in batches] == [8] * 7 and whole_epoch(batches[:5])
    assert on.dynamics[-1]["step"] == on.costs["training"]["steps"] == on.steps == 7


def test_stretches_by_tokens() -> None:
    """A stage that goes on in the data where another left it; and one that sees them in another order."""
    on = bench(batch_tokens=TOKENS, gradient_accumulation=2)
    batches = seen(on)
    on.train(stage=Stage("late", steps=4))
    on.train(stage=Stage("onward", steps=3, first=4, skip=4))
    assert batches == drawn(TOKENS, 14)
    on.train(stage=Stage("other", steps=4, order=1))
    assert batches[14:] != drawn(TOKENS, 8) and batches[14:] == drawn(TOKENS, 8, seed=1_000_003)


def test_accumulated_batches_of_tokens_are_averaged() -> None:
    """Each batch counts alike, however many examples it has; weights stand still, nothing is dropped out."""
    on = bench(steps=4, batch_tokens=TOKENS, gradient_accumulation=3, lr=1e-20, look_every=1)
    for module in on.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        losses = [float(on.model(**collate(batch)).loss) for batch in drawn(TOKENS, 12)]
    on.train()
    wanted = [sum(losses[start : start + 3]) / 3 for start in range(0, 12, 3)]
    assert [look["loss"] for look in on.dynamics] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "stage"),
    [
        ({"batch_tokens": TOKENS, "gradient_accumulation": 2}, Stage()),
        ({"batch_tokens": TOKENS, "group_by_length": False}, Stage(first=3, skip=3)),
        ({"schedule": "linear", "warmup": 4}, Stage(first=3)),
    ],
    ids=["tokens", "a stretch of tokens", "a stretch of a schedule"],
)
def test_resuming(settings: dict[str, Any], stage: Stage, tmp_path: Path) -> None:
    """Killed after a checkpoint it sees the batches that it had not seen, at the rates of those steps."""

    def again(name: str) -> Workbench:
        return bench(tmp_path / name, checkpoint_every=3, look_every=3, **settings)

    straight, killed, resumed = again("straight"), again("killed"), again("killed")
    whole, batches = seen(straight), seen(resumed)
    with recorded() as steps:
        straight.train(stage=stage)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_after(5, patch)
        killed.train(stage=stage)
    with recorded() as more:
        resumed.train(stage=stage)
    assert len(more) == len(steps) - 3 and all(map(alike, more, steps[3:]))
    assert batches == whole[3 * settings.get("gradient_accumulation", 1) :]
    assert alike(weights(resumed.model), weights(straight.model))
    rates = [[look["learning_rate"] for look in on.dynamics] for on in (straight, resumed)]
    assert rates[0] == rates[1] and resumed.costs["training"]["steps"] == len(steps)


@pytest.mark.parametrize("tokens", [TOKENS, None])
def test_scoring_batches(tokens: int | None) -> None:
    """From short to long: all rows, as many as were asked for, or those held out."""
    on = bench(batch_tokens=tokens)
    on.development = rows_of([9] * 16, seed=1)
    batches, all_rows = seen(on), list(on.batches())
    assert whole_epoch(batches)
    assert [row["length"] for batch in batches for row in batch] == sorted(ROWS["length"])
    for batch, rows in zip(all_rows, batches, strict=True):
        assert batch["labels"].tolist() == [row["labels"] for row in rows]
        assert batch["input_ids"].numel() <= tokens if tokens else len(rows) == 8
    assert sum(len(batch["labels"]) for batch in on.batches(11)) == 11
    sizes = [len(batch["labels"]) for batch in on.development_batches()]
    assert sizes == ([6, 6, 4] if tokens else [8, 8])


@pytest.mark.parametrize(
    ("warmup", "rates"),
    [
        (3, [0, 1 / 3, 2 / 3, 1, 1, 1]),
        (0.5, [0, 1 / 3, 2 / 3, 1, 1, 1]),
        (1, [0, 1, 1, 1, 1, 1]),
        (1.0, [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6]),
        (60, [0, 1 / 60, 2 / 60, 3 / 60, 4 / 60, 5 / 60]),
    ],
)
def test_warmup_is_a_share_or_a_number(warmup: float | int, rates: list[float]) -> None:
    on = bench(steps=6, schedule="constant_with_warmup", warmup=warmup, look_every=1)
    on.train()
    assert [look["learning_rate"] for look in on.dynamics] == pytest.approx([1e-3 * rate for rate in rates])


def test_looks_at_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is one too. On the way: the decay of Adam's second moments is the settings'."""
    decays, step = [], GatesCallback.on_optimizer_step

    def on_optimizer_step(*args: Any, **kwargs: Any) -> None:
        decays.append(kwargs["optimizer"].param_groups[0]["betas"])
        step(*args, **kwargs)

    monkeypatch.setattr(GatesCallback, "on_optimizer_step", on_optimizer_step)
    on = bench(steps=10, look_every=4, looks=9, adam_beta2=0.98)
    on.train()
    assert [look["step"] for look in on.dynamics] == [4, 8, 10] and decays == [(0.9, 0.98)] * 10


def test_training_if_needed() -> None:
    """A trained model is trained when somebody says how long."""
    for settings, steps in (({"epochs": None}, 0), ({"steps": 2}, 2), ({"epochs": 0.2}, 1)):
        on = bench(**settings)
        on.trained = True
        on.train_if_needed()
        assert on.costs.get("training", {"steps": 0})["steps"] == steps


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": 5, "epochs": 1.0}, "Got 5 steps and 1.0 epochs. Give one of them"),
        ({"steps": 0}, "Got steps 0. Give a whole number of at least 1 or nothing."),
        ({"batch_tokens": 0}, "Got batch_tokens 0. Give a whole number of at least 1"),
        ({"look_every": 0}, "Got look_every 0. Give a whole number of at least 1"),
        ({"stop_after": 0}, "Got stop_after 0. Give a whole number of at least 1"),
        ({"average": -1}, "Got average -1. Give a whole number of at least 0."),
        ({"smoothing": 1.0}, "Got smoothing 1.0. Give a number of at least 0 and below 1."),
        ({"smoothing": -0.1}, "Got smoothing -0.1. Give a number of at least 0 and below 1."),
        ({"adam_beta2": 1.0}, "Got adam_beta2 1.0. Give a number above 0 and below 1."),
        ({"adam_beta2": 0.0}, "Got adam_beta2 0.0. Give a number above 0 and below 1."),
        ({"average": 2, "keep_best": True}, "the mean of several looks or those of the best: give one of them"),
        ({"warmup": -1}, "Got warmup -1. Give a share of the training's steps"),
        ({"weight_decay": -1.0}, "Got weight_decay -1.0. Give a number of at least 0."),
        ({"warmup": -0.5}, "Got warmup -0.5. Give a share of the training's steps"),
        (
            {"warmup": 1.5},
            "Got warmup 1.5. Give a share of the training's steps, from 0 to 1, or a whole number of them.",
        ),
    ],
    ids=str,
)
def test_bad_settings_say_what_is_valid(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRecipe, match=says):
        TrainingSettings(**settings)


@pytest.mark.parametrize("name", ["dsp-joint", "dsp-pipelined"])
def test_loss_scaling_finds_its_scale_also_with_frozen_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float16 gradients overflow until the scale has fallen; gradients that overflow are dropped."""
    scales: list[float] = []
    made = GatedTrainer.__init__

    def too_large(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        self.accelerator.native_amp = True  # as on GPUs; on CPUs accelerate has float16 only by hand
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**32)

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.gates is not None:
            scales.append(kwargs["optimizer"].scaler.get_scale())

    monkeypatch.setattr(GatedTrainer, "__init__", too_large)
    monkeypatch.setattr(GatesCallback, "on_step_end", on_step_end)
    on = bench(steps=40, precision="float16", look_every=40)
    on.trained = True  # and is trained again, for joint methods
    if name == "dsp-pipelined":
        on.settings = replace(on.settings, steps=None, epochs=None)
        method(name, {"epochs": 8.0, "temperature_start": 1.0}).select(on, Budget(5))
    else:
        method(name, {"temperature_start": 1.0}).select(on, Budget(5))
    assert scales[0] > scales[-1] and scales[-1] <= 2.0**18 and len(scales) == 40
    assert on.dynamics[-1]["dropped_gradients"] < 12 * 25


def test_the_schedule_is_that_of_the_group_that_learns(tmp_path: Path) -> None:
    """Frozen embeddings may stand in a group of their own, at a rate of 0."""
    model = tiny("bert")
    gates = attach(model, StraightThrough(keep=5))
    gates.step = lambda **given: steps.append(given["lr_scale"])  # type: ignore[method-assign]
    steps: list[float] = []
    groups = [{"params": [torch.zeros(1)], "lr": 0.0}, {"params": [torch.zeros(1)], "lr": 1e-3}]
    optimizer = torch.optim.SGD(groups)
    for group in optimizer.param_groups:
        group["initial_lr"] = 2 * group["lr"]
    arguments = TrainingArguments(str(tmp_path), learning_rate=1e-3, use_cpu=True)
    GatesCallback(gates).on_optimizer_step(arguments, TrainerState(), TrainerControl(), optimizer=optimizer)
    assert steps == [0.5]
