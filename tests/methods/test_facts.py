"""What methods say of themselves is so, and is all that others know of them."""

from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from headcount.errors import BadData, BadRecipe
from headcount.experiments.recipe import Recipe
from headcount.experiments.run import run_recipe
from headcount.methods import METHODS, ignores_budget, method
from headcount.methods.facts import Length, Method, Steps
from recipes import PRUNING, recipe, some

LENGTH = Length(total=100, epoch=40, heads=24, kept=6, sites=8)


@pytest.mark.parametrize("name", some(PRUNING, ("gradual", "magnitude", "random", "lottery")))
def test_only_methods_that_need_held_out_examples_ask_for_them(
    name: str, tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path
) -> None:
    wanted = recipe(name, 3, tiny_bert_dir, data)
    blind = replace(wanted, data={**data, "development": 0})
    if not METHODS[name].needs_held_out:
        assert run_recipe(blind, tmp_path / "out").kept == 3
        return
    with pytest.raises(BadData, match="has 0 examples, too few to score heads on"):
        run_recipe(blind, tmp_path / "out")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_those_that_learn_by_gates_have_a_relaxation(name: str) -> None:
    kind = METHODS[name]
    assert kind.learns_by_gates or not kind.dynamics
    if not kind.learns_by_gates:
        with pytest.raises(BadRecipe, match="does not learn by gates"):
            kind().relaxation(3, 100)


def test_steps_by_hand() -> None:
    """Of 24 heads 18 go: by twos in 9 scorings, by fours in 5 iterations."""
    wanted = {
        "dsp-joint": Steps(100), "fewer-heads": Steps(100), "reinit": Steps(100), "voita": Steps(800),
        "unpruned": Steps(0, 100, "training"), "magnitude": Steps(0, 100, "training"),
        "dsp-pipelined": Steps(40, 100, "training"), "michel": Steps(9 * 40, 100, "training"),
        "lottery": Steps(5 * 3 + 95, 5, "late"),
    }  # fmt: skip
    assert {name: METHODS[name]().steps(LENGTH) for name in wanted} == wanted
    assert method("voita", {"lambda": 0.1}).steps(LENGTH) == Steps(100)
    assert method("michel", {"examples": 20}).steps(LENGTH) == Steps(0, 100, "training")


def test_a_budget_that_is_ignored_is_not_recorded() -> None:
    data = {"train": "a", "validation": "b"}
    assert Recipe("m", "unpruned", 3, data) == Recipe("m", "unpruned", None, data)
    assert Recipe("m", "unpruned", 3, data).budget.keep == 1.0
    assert ignores_budget("unpruned") and not any(map(ignores_budget, ("michel", "auto", "nope", None)))


def test_a_recipe_builds_its_parts_once() -> None:
    wanted = Recipe("m", "michel", 3, {"train": "a", "validation": "b"})
    assert wanted.make_method() is wanted.make_method() and wanted.make_task() is wanted.make_task()
    assert wanted.budget is wanted.budget


def test_what_is_no_method_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = EntryPoint("odd", "builtins:int", "headcount.methods")
    monkeypatch.setattr("headcount.methods.entry_points", lambda group: [found])
    with pytest.raises(BadRecipe, match="'odd' of headcount.methods gives <class 'int'>, which is no method. Derive"):
        method("odd")
    assert issubclass(METHODS["michel"], Method)
