"""Which weights a training ends with: last, best, mean or smoothed, by recurrences worked over what each step left."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted import Script, far, of_weights, trained
from torch import nn

from benches import Weights, alike, bench, recorded, weights
from headcount.anatomy import present
from headcount.errors import BadRecipe
from headcount.experiments.run import run_recipe
from headcount.methods import method
from headcount.methods.joint import learn
from headcount.settings.training import Stage, TrainingSettings
from headcount.training.final_weights import Keeper
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from recipes import recipe


def smoothed(steps: Sequence[Weights], smoothing: float) -> list[Weights]:
    """After each step the exponential average as Marian has it, in float64."""
    found: list[Weights] = []
    for t, now in enumerate(steps, start=1):
        share = max(smoothing, 1 - (t + 1) / (t + 10))
        before = found[-1] if found else {name: weight.double() for name, weight in now.items()}
        found.append({name: (1 - share) * before[name] + share * weight.double() for name, weight in now.items()})
    return found


def mean(looks: Sequence[Weights]) -> Weights:
    return {name: torch.stack([look[name].double() for look in looks]).mean(0) for name in looks[0]}


def close(some: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    return some.keys() == others.keys() and all(
        torch.allclose(some[name].double(), others[name].double(), rtol=0, atol=1e-6) for name in some
    )


def measure(model: Any) -> dict[str, float]:
    return {"size": of_weights(weights(model))}


@pytest.fixture(scope="module")
def plain() -> list[Weights]:
    """What each step of the training leaves that nothing is kept of."""
    last, steps = trained(bench())
    assert alike(last, steps[-1]) and len(steps) == 12 and far(steps[0], last)
    return steps


def test_smoothing_is_an_exponential_average(plain: list[Weights]) -> None:
    """For eight steps the first ones' larger shares rule; then what the settings say."""
    last, steps = trained(bench(smoothing=0.5))
    assert all(map(alike, steps, plain))  # the training itself goes on as it would
    assert close(last, smoothed(plain, 0.5)[-1]) and far(last, plain[-1])
    assert far(last, smoothed(plain, 0.4)[-1])


def test_smoothing_by_hand() -> None:
    """Shares: all, 3/4, 9/13, then what the settings say; a weight that is not trained stays out of it."""
    model = nn.Linear(1, 1)
    model.bias.requires_grad_(False)
    keeper = Keeper(TrainingSettings(smoothing=2 / 3), measured=False)
    for t, (now, wanted) in enumerate([(1.0, 1.0), (13.0, 10.0), (23.0, 19.0), (34.0, 29.0), (2.0, 11.0)], start=1):
        nn.init.constant_(model.weight, now)
        keeper.follow(model, t)
        assert set(keeper.smooth) == {"weight"} and keeper.smooth["weight"].item() == pytest.approx(wanted)
    keeper.finish(model)
    assert model.weight.item() == pytest.approx(11.0)


def test_small_shares_of_half_precision_are_not_lost() -> None:
    """A share of 0.001 of a bfloat16's move from 1 to 2 is below its resolution; a thousand of them are 63 %."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    keeper = Keeper(TrainingSettings(smoothing=0.001), measured=False)
    for t in range(1001):
        nn.init.constant_(model.weight, 2.0 if t else 1.0)
        keeper.follow(model, 10**6 + t)
    keeper.finish(model)
    assert model.weight.dtype == torch.bfloat16
    assert model.weight.item() == pytest.approx(2 - 0.999**1000, rel=2**-8)


def test_a_model_in_half_precision() -> None:
    """Mixed precision is another thing: there the weights are whole."""
    on = bench(smoothing=0.2, keep_best=True, look_every=4, measure=Script([1.0, 2.0, 0.0]))
    on.model = on.model.bfloat16()
    last, steps = trained(on)
    assert {weight.dtype for weight in last.values()} == {torch.bfloat16}
    wanted = smoothed(steps, 0.2)[7]
    assert all(torch.allclose(last[name].double(), wanted[name], rtol=2**-8, atol=1e-6) for name in last)


@pytest.mark.parametrize(
    ("average", "of", "smoothing"), [(1, [12], 0.0), (2, [10, 12], 0.0), (2, [10, 12], 0.2), (9, [5, 10, 12], 0.0)]
)
def test_the_mean_of_the_last_looks(average: int, of: list[int], smoothing: float, plain: list[Weights]) -> None:
    """The end is a look, whatever the interval."""
    on = bench(average=average, look_every=5, smoothing=smoothing)
    last, _ = trained(on)
    looks = smoothed(plain, smoothing) if smoothing else plain
    assert [look["loss"] > 0 for look in on.dynamics] == [True] * 3
    assert close(last, mean([looks[step - 1] for step in of]))


def test_the_figures_are_those_of_the_smoothed_weights(plain: list[Weights]) -> None:
    """After a look the training goes on with its own weights."""
    on = bench(measure=measure, smoothing=0.1, looks=6)
    last, steps = trained(on)
    assert all(map(alike, steps, plain))
    wanted = [of_weights(each) for each in smoothed(plain, 0.1)[1::2]]
    assert [look["development"]["size"] for look in on.dynamics] == pytest.approx(wanted, abs=1e-3)
    assert on.dynamics[-1]["development"] == measure(on.model)
    raw = [of_weights(each) for each in plain[1::2]]
    assert all(one != pytest.approx(other, rel=1e-3) for one, other in zip(wanted[1:], raw[1:], strict=True))
    assert close(last, smoothed(plain, 0.1)[-1])


@pytest.mark.parametrize(
    ("script", "judge_by", "best"),
    [
        (Script([0.5, 0.8, 0.6, 0.8, 0.7, 0.1], f1=[0.1, 0.2, 0.3, 0.4, 0.6, 0.5]), None, 2),  # of equals the first
        (Script([0.5, 0.8, 0.6, 0.8, 0.7, 0.1], f1=[0.1, 0.2, 0.3, 0.4, 0.6, 0.5]), "f1", 5),
        (Script([0.5, 0.8, 0.6, 0.7, 0.9, 1.0], loss=[3.0, 2.0, 1.0, 4.0, 5.0, 6.0]), "loss", 3),
        (Script([math.nan, 2.0, 3.0, 1.0, math.nan, 2.0], name="loss"), None, 4),
    ],
)
def test_the_best_look(script: Script, judge_by: str | None, best: int, plain: list[Weights]) -> None:
    last, steps = trained(bench(measure=script, keep_best=True, judge_by=judge_by, looks=6))
    assert all(map(alike, steps, plain))
    assert alike(last, plain[2 * best - 1]) and far(last, plain[-1])


def test_the_best_of_the_smoothed(plain: list[Weights]) -> None:
    last, _ = trained(bench(measure=Script([0.1, 0.3, 0.2]), keep_best=True, smoothing=0.1, look_every=4))
    assert close(last, smoothed(plain, 0.1)[7])


@pytest.mark.parametrize(
    ("figures", "patience", "looks", "keep_best"),
    [
        ([0.3, 0.2, 0.9, 0.9, 0.9, 0.9], 1, 2, True),
        ([0.1, 0.5, 0.5, 0.4, 0.9, 1.0], 2, 4, False),  # no better is no better
        ([0.5, 0.4, 0.6, 0.5, 0.4, 0.9], 2, 5, True),  # a better one is a new start
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1, 6, False),
    ],
)
def test_stopping(
    figures: list[float], patience: int, looks: int, keep_best: bool, plain: list[Weights], tmp_path: Path
) -> None:
    """It stops at that look; another run of it, from the checkpoint of the stop, trains no step more."""

    def again() -> Workbench:
        return bench(tmp_path, Script(figures), looks=6, stop_after=patience, keep_best=keep_best, checkpoint_every=50)

    on, resumed = again(), again()
    last, steps = trained(on)
    assert len(steps) == on.costs["training"]["steps"] == 2 * looks and all(map(alike, steps, plain))
    assert len(on.dynamics) == looks
    best = figures[:looks].index(max(figures[:looks])) + 1
    assert alike(last, plain[2 * (best if keep_best else looks) - 1])
    same, more = trained(resumed)
    assert not more and alike(same, last)
    assert resumed.dynamics == on.dynamics and resumed.costs["training"]["steps"] == 2 * looks


@pytest.mark.parametrize("name", ["dsp-joint", "gradual"])
def test_where_gates_learn(name: str) -> None:
    """Best and stopping are off: early looks belong to other heads. Averages apply, to weights and not to scores."""

    def learned(**settings: Any) -> tuple[Workbench, Any, list[Weights]]:
        on = bench(measure=Script([0.6, 0.5, 0.4, 0.3, 0.2, 0.1]), looks=6, **settings)
        made: Any = method(name)
        with recorded() as steps:
            gates = learn(on, Budget(5), made.relaxation(5, 12))
        return on, gates, steps

    on, gates, steps = learned()
    assert len(gates.subset()) == 5 and alike(weights(on.model), steps[-1])
    for average in (0, 2) if name == "gradual" else (0,):
        best = {"keep_best": not average, "stop_after": 1}
        other, same, more = learned(smoothing=0.1, average=average, **best)
        assert all(map(alike, more, steps)) and len(more) == 12
        assert torch.equal(same.scores, gates.scores) and torch.equal(same.moments, gates.moments)
        assert [look["kept"] for look in other.dynamics] == [look["kept"] for look in on.dynamics]
        looks = smoothed(steps, 0.1)
        assert close(weights(other.model), mean([looks[9], looks[11]]) if average else looks[11])
        assert far(weights(other.model), steps[-1])


KEPT = {"smoothing": 0.1, "keep_best": True, "stop_after": 1}


@pytest.mark.parametrize(
    "stage",
    [
        Stage("late", steps=5, keeps_moments=True),
        Stage("iteration-1", "selection", 4, 5, 12, order=1),
        Stage("gates", "selection", 6, total=6, frozen=True),
    ],
    ids=lambda stage: stage.name,
)
def test_stages_in_the_middle_end_with_raw_weights(stage: Stage) -> None:
    """What they hand on goes on; nor do they stop early."""
    on = bench(measure=Script([0.6, 0.5, 0.4, 0.3, 0.2, 0.1]), looks=4, **KEPT)
    before = weights(on.model)
    with recorded() as steps:
        on.train(stage=stage)
    assert len(steps) == stage.steps and alike(weights(on.model), steps[-1])
    assert alike(before, steps[-1]) == stage.frozen


@pytest.mark.parametrize("schedule", ["continue", "restart"])
def test_a_lottery_keeps_at_its_end(schedule: str) -> None:
    """With the schedule started anew the last stage ends before its schedule does."""
    options = {"late_reset": 3, "iteration": 2, "heads_per_iteration": 7, "schedule": schedule}
    on = bench(smoothing=0.1, measure=measure)
    on.development = on.data
    with recorded() as steps:
        method("lottery", options).select(on, Budget(5))
    assert len(steps) == 3 + 2 + 9 and len(present(on.model)) == 5
    assert close(weights(on.model), smoothed(steps[5:], 0.1)[-1]) and far(weights(on.model), steps[-1])


@pytest.mark.parametrize("settings", [{"keep_best": True}, {"stop_after": 2}], ids=str)
def test_no_development_data(
    settings: dict[str, Any], tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(BadRecipe, match="a training needs development data: hold out more examples"):
        bench(**settings).train()
    training = TrainingSettings(epochs=1.0, batch_size=8, **settings)
    wanted = recipe("unpruned", None, tiny_bert_dir, data, training=training)
    wanted = replace(wanted, data={**data, "development": 0})
    with pytest.raises(BadRecipe, match="needs development data"):
        run_recipe(wanted, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    gradual: Any = method("gradual")
    learn(bench(**settings, steps=2), Budget(5), gradual.relaxation(5, 2))  # where nothing is judged


@pytest.mark.parametrize("settings", [{"keep_best": True}, {"stop_after": 2}], ids=str)
def test_unknown_figures(settings: dict[str, Any]) -> None:
    on = bench(measure=Script([1.0], f1=[2.0]), judge_by="bleu", **settings)
    with pytest.raises(BadRecipe, match="Cannot judge by 'bleu'. On development data there are: accuracy, f1"):
        on.train()
