"""The contract of every method, on a tiny model: exact budget, deterministic by seed, record complete; its parts."""

import inspect
import json
import math
import random
import sys
import types
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from benches import ROWS, bench
from families import FAMILIES
from headcount.anatomy import present
from headcount.anatomy.example import random_inputs
from headcount.directory.model_files import load
from headcount.errors import BadData, BadRecipe
from headcount.experiments.recipe import Recipe, training_for
from headcount.experiments.run import evaluate, run_recipe
from headcount.importance import Confidence
from headcount.methods import METHODS, method
from headcount.methods.automatic import LONG, choose
from headcount.methods.voita import next_lambda
from headcount.settings.training import Stage, TrainingSettings
from headcount.units.budget import Budget
from recipes import PRUNING, QUICK, recipe, require_dynamics, slow, some, workbench


@pytest.mark.parametrize("keep", [pytest.param(0, marks=slow), 3, pytest.param(8, marks=slow)])
@pytest.mark.parametrize("name", some(PRUNING, tuple({*PRUNING} - {"reinit"})))  # the longest; it is a lottery
def test_contract(name: str, keep: int, tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    record = run_recipe(recipe(name, keep, tiny_bert_dir, data), tmp_path / "a")
    assert sum(map(len, record.subset.values())) == keep
    assert record.signature.startswith(f"method:{name}") and f"|keep:{keep}/8|" in record.signature
    assert set(record.metrics) == {"accuracy", "macro_f1"} and record.versions["torch"] == torch.__version__
    assert record.size["before"]["parameters"] - record.size["after"]["parameters"] == (8 - keep) * (4 * 8 * 32 + 3 * 8)
    assert record.costs["training"]["steps"] == 6
    for cost in record.costs.values():
        assert cost["steps"] >= 0 and cost["seconds"] > 0 and cost["peak_memory"] > 10**7
    looks = [look for look in record.dynamics if "loss" in look]
    assert len(looks) >= 3 and all(set(look["development"]) == {"accuracy", "macro_f1"} for look in looks)
    require_dynamics(name, looks, keep)
    model = load(tmp_path / "a")
    assert present(model).to_json() == record.subset and str(present(model)) == record.heads
    final = set(present(model).indices)
    for look in record.dynamics:
        if len(look.get("kept", [])) == keep > 0:
            assert look["finally_kept"] == len(final & set(look["kept"])) / keep
    assert model.config.label2id == {"no": 0, "yes": 1}
    task = recipe(name, keep, tiny_bert_dir, data).make_task()
    assert evaluate(str(tmp_path / "a"), task) == record.metrics
    assert json.loads((tmp_path / "a" / "headcount.json").read_text())["signature"] == record.signature
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]  # no checkpoints, nothing aside

    again = run_recipe(recipe(name, keep, tiny_bert_dir, data), tmp_path / "b")
    assert (again.subset, again.metrics) == (record.subset, record.metrics)
    weights = [load(tmp_path / each).state_dict() for each in ("a", "b")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.fixture(scope="module")
def tiny_llama_dir(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny Llama of 3 layers of 4 heads, two to a key/value head."""
    directory = tmp_path_factory.mktemp("tiny-llama")
    settings = FAMILIES["llama"].settings | {"vocab_size": len(tiny_tokenizer)}
    LlamaModel(LlamaConfig(**settings)).save_pretrained(directory)
    tiny_tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("unit", ["group", "query"])
@pytest.mark.parametrize("name", some(PRUNING))
def test_methods_keep_whole_units(
    name: str, unit: str, tiny_llama_dir: Path, data: dict[str, str], tmp_path: Path
) -> None:
    record = run_recipe(recipe(name, 6, tiny_llama_dir, data, unit=unit), tmp_path / "out")
    assert sum(map(len, record.subset.values())) == 6
    for kept in record.subset.values():
        groups = [[head for head in kept if head // 2 == group] for group in range(2)]
        assert all(len(group) in (0, 2) for group in groups) if unit == "group" else len(groups[0]) == len(groups[1])
    assert ("|unit:query|" in record.signature) == (unit == "query")
    with pytest.raises(BadRecipe, match="nearest budgets are 4 and 6"):
        run_recipe(recipe(name, 5, tiny_llama_dir, data, unit=unit), tmp_path / "odd")
    assert not (tmp_path / "odd").exists()


def test_mixed_precision_ends_with_the_training(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    """Autocast left on would hide in the figures; surgery compares in float32 and would refuse."""
    training = TrainingSettings(epochs=1.0, batch_size=8, lr=1e-3, checkpoint_every=0, precision="bfloat16")
    mixed = recipe("dsp-joint", 3, tiny_bert_dir, data, training=training)
    record = run_recipe(mixed, tmp_path / "mixed")
    assert evaluate(str(tmp_path / "mixed"), mixed.make_task()) == record.metrics
    assert "|precision:bfloat16|" in record.signature
    bench = workbench(replace(mixed, model=str(tmp_path / "mixed")), training)
    inputs = random_inputs(bench.model)
    bench.train()
    with torch.no_grad():
        logits = bench.model(**inputs).logits
        by_class = type(bench.model).forward(bench.model, **inputs).logits
    assert torch.equal(logits, by_class)


def test_accumulated_batches_are_averaged(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    training = TrainingSettings(epochs=1.0, batch_size=8, gradient_accumulation=4, lr=1e-3, checkpoint_every=0)
    record = run_recipe(recipe("dsp-joint", 3, tiny_bert_dir, data, training=training), tmp_path / "out")
    assert record.costs["training"]["steps"] == 2 == record.dynamics[-1]["step"]  # 6 batches: 4 and 2
    assert record.dynamics[0]["temperature"] < 1000 and record.dynamics[-1]["temperature"] == 1e-8
    assert 0.3 < record.dynamics[0]["loss"] < 1.5  # two classes, untrained: about log 2, not four times that


def test_unpruned_keeps_all_and_feeds_the_pipelined(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    whole = run_recipe(recipe("unpruned", None, tiny_bert_dir, data), tmp_path / "whole")
    assert whole.heads == "4 4" and whole.costs["training"]["steps"] == 6
    rest = TrainingSettings(batch_size=8)
    small = run_recipe(recipe("michel", 3, tmp_path / "whole", data, training=rest), tmp_path / "small")
    assert "training" not in small.costs and small.notes["scorings"] == 2  # 8 to 5 to 3
    smaller = run_recipe(recipe("michel", 1, tmp_path / "small", data, training=rest), tmp_path / "smaller")
    assert set(flat(smaller.subset)) < set(flat(small.subset))
    with pytest.raises(BadRecipe, match=r"Cannot keep 4 of 3 heads \(5 of 8 are gone\)"):
        run_recipe(recipe("michel", 4, tmp_path / "small", data), tmp_path / "none")
    with pytest.raises(BadRecipe, match="is there already and not empty"):
        run_recipe(recipe("michel", 1, tmp_path / "small", data), tmp_path / "small")


def test_the_callers_noise_goes_on(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    """A loop over runs must not draw the same numbers in every round."""
    drawn = []
    for turn in ("a", "b"):
        drawn.append((random.random(), np.random.random(), float(torch.rand(()))))
        run_recipe(recipe("gradual", 3, tiny_bert_dir, data), tmp_path / turn)
    assert all(first != second for first, second in zip(*drawn, strict=True))


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator, which knows float16")
def test_a_precision_that_would_not_be_used_is_refused(
    tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path
) -> None:
    half = recipe("gradual", 3, tiny_bert_dir, data, training=replace(QUICK, precision="float16"))
    with pytest.raises(BadRecipe, match="float16 needs an accelerator.*Give bfloat16"):
        run_recipe(half, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_model_card_works(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    run_recipe(recipe("gradual", 3, tiny_bert_dir, data), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    code = card.partition("```python\n")[2].partition("```")[0].replace("this directory", str(tmp_path / "out"))
    names: dict[str, Any] = {}
    exec(code, names)
    assert len(present(names["model"])) == 3 and "size mismatch" in card


def flat(subset: dict[str, list[int]]) -> list[tuple[str, int]]:
    return [(site, head) for site, heads in subset.items() for head in heads]


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("magic", {}, "Unknown method 'magic'. Valid methods: dsp-joint, dsp-joint-short, dsp-pipelined"),
        (
            "michel",
            {"speed": 1},
            "Unknown key 'speed' in \\[options\\] of method 'michel'. Valid: heads_per_step, one_shot, examples",
        ),
        (
            "michel",
            {"examples": "many"},
            "Got options.examples 'many' of method 'michel'. Give a whole number",
        ),
        ("michel", {"examples": 0}, "Got options.examples 0 of method 'michel'. Give a whole number"),
        (
            "michel",
            {"reduction": "sum"},
            "Got options.reduction 'sum' of method 'michel'. Give one of example",
        ),
        (
            "dsp-joint",
            {"cooldown": 1.5},
            "Got options.cooldown 1.5 of method 'dsp-joint'. Give a share of the training's steps, from 0 to 1",
        ),
        ("dsp-joint", {"scores_lr": True}, "Got options.scores_lr True of method 'dsp-joint'. Give a number above 0."),
        (
            "dsp-joint",
            {"start_spread": -1.0},
            "Got options.start_spread -1.0 of method 'dsp-joint'. Give a number above 0.",
        ),
        (
            "dsp-joint",
            {"temperature_start": 0.0},
            "Got options.temperature_start 0.0 of method 'dsp-joint'. Give a number above 0.",
        ),
        (
            "dsp-joint",
            {"scores_schedule": "cosine"},
            "Got options.scores_schedule 'cosine' of method 'dsp-joint'. Give one of follow, constant.",
        ),
        (
            "gradual",
            {"first": -0.5},
            "Got options.first -0.5 of method 'gradual'. Give a share of the training's steps",
        ),
        (
            "dsp-pipelined",
            {"epochs": -1.0},
            "Got options.epochs -1.0 of method 'dsp-pipelined'. Give a number above 0.",
        ),
        (
            "dsp-pipelined",
            {"epochs": math.nan},
            "Got options.epochs nan of method 'dsp-pipelined'. Give a finite number above 0.",
        ),
        ("ste", {"scores_lr": math.inf}, "Got options.scores_lr inf of method 'ste'. Give a finite number above 0."),
        (
            "lottery",
            {"late_reset": 1.5},
            "Got options.late_reset 1.5 of method 'lottery'. Give a share of the training's steps",
        ),
        (
            "lottery",
            {"iteration": -1},
            "Got options.iteration -1 of method 'lottery'. Give a share of the training's steps",
        ),
    ],
)
def test_bad_methods_say_what_is_valid(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRecipe, match=says.replace("|", r"\|")):
        method(name, options)


def test_bad_recipes(tiny_bert_dir: Path, data: dict[str, str]) -> None:
    for changes, says in (
        ({"task": "poetry"}, "Unknown task 'poetry'. Valid tasks: classification"),
        ({"keep": None}, "needs a budget"),
        ({"keep": 1.5}, "Cannot keep the fraction 1.5"),
        ({"data": {**data, "colour": 1}}, "Unknown key 'colour' in \\[data\\]. Valid: train, validation"),
    ):
        with pytest.raises(BadRecipe, match=says):
            Recipe(**{"model": "m", "method": "michel", "keep": 3, "data": data, **changes})
    for changes, says in (
        ({"precision": "int3"}, "Got training.precision 'int3'. Give one of float32, bfloat16, float16."),
        ({"epochs": 0.0}, "Got training.epochs 0.0. Give a number above 0 or nothing."),
        ({"batch_size": 0}, "Got training.batch_size 0. Give a whole number of at least 1."),
        ({"lr": 0.0}, "Got training.lr 0.0. Give a number above 0."),
        ({"warmup": 100.0}, "Got training.warmup 100.0. Give a share of the training's steps, from 0 to 1, or a whole"),
        ({"schedule": "stairs"}, "Got training.schedule 'stairs'. Give one of linear, cosine"),
    ):
        with pytest.raises(BadRecipe, match=says):
            training_for("classification", changes)


def test_the_documented_method_works(
    tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of docs/add-a-method.md, as it stands there, meets the contract."""
    page = (Path(__file__).parents[2] / "docs" / "add-a-method.md").read_text()
    names: dict[str, Any] = {"__name__": "confident"}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    monkeypatch.setitem(METHODS, "confident", names["Confident"])
    for keep in (0, 2, 8):
        record = run_recipe(
            recipe("confident", keep, tiny_bert_dir, data, options={"bonus": 2.0}), tmp_path / f"{keep}"
        )
        assert sum(map(len, record.subset.values())) == keep and record.costs["selection"]["seconds"] > 0
        assert keep < 2 or all(record.subset.values())  # the bonus: no site is left without a head
    even = torch.full((12,), 0.5, dtype=torch.float64)
    even[7] = 0.6
    monkeypatch.setattr(Confidence, "scores", lambda *_: even.clone())
    on = replace(bench(), trained=True, development=ROWS)
    heads = [names["Confident"](bonus=1.0).select(on, Budget(keep)).indices for keep in (1, 3, 4)]
    # Of equals the first of a site is its best; the bonuses are alike, and counted from the largest score before them.
    assert heads == [(7,), (0, 7, 8), (0, 1, 7, 8)]
    with pytest.raises(BadRecipe, match="'bonus' must not be negative"):
        method("confident", {"bonus": -1.0})


def test_a_method_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by its entry point; its module may leave annotations as text."""
    module = types.ModuleType("plugged")
    names = vars(module)
    text = """
from __future__ import annotations
from dataclasses import dataclass
from headcount.methods.facts import Method

@dataclass(frozen=True)
class Plugged(Method):
    paradigm = "pipelined"
    weight: float = 1.0

    def select(self, bench, budget):
        return None
"""
    monkeypatch.setitem(sys.modules, "plugged", module)
    exec(text, names)
    found = EntryPoint("plugged", "plugged:Plugged", "headcount.methods")
    monkeypatch.setattr("headcount.methods.entry_points", lambda group: [found] if group == "headcount.methods" else [])
    assert method("plugged", {"weight": 2}).weight == 2
    with pytest.raises(BadRecipe, match="Got options.weight 'much' of method 'plugged'. Give a number."):
        method("plugged", {"weight": "much"})
    with pytest.raises(BadRecipe, match="Unknown method 'pluged'.*plugged"):
        method("pluged")


def test_methods_are_short() -> None:
    """Adding one must stay easy: every method's file is under 150 lines."""
    lengths = {name: len(Path(inspect.getfile(kind)).read_text().splitlines()) for name, kind in METHODS.items()}
    assert len(lengths) == len(METHODS) and max(lengths.values()) < 150, lengths


def test_annealing_longer_than_the_training(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    for name in ("dsp-joint", "dsp-pipelined"):
        long = recipe(name, 3, tiny_bert_dir, data, options={"cooldown": 25_000})
        with pytest.raises(BadRecipe, match="'cooldown' is 25000, which is 25000 steps, but the training has 6"):
            run_recipe(long, tmp_path / name)


@slow
def test_a_lambda_that_leaves_about_k_is_searched_for(
    tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path
) -> None:
    """Penalties close gates only in time: a training of a few steps at the usual rate leaves all of them open."""
    options = {"lambda": "auto", "scores_lr": 2.0, "tries": 6, "tolerance": 0.5}
    record = run_recipe(recipe("voita", 3, tiny_bert_dir, data, options=options), tmp_path / "out")
    told = record.notes["voita"]
    path = {each["lambda"]: each["open"] for each in told["path"]}
    assert 1 < len(path) <= 6 and path[told["lambda"]] == told["open"]
    assert told["adjusted"] == abs(told["open"] - 3) == min(abs(count - 3) for count in path.values())
    assert record.costs["training"]["steps"] == 6
    assert record.costs["selection"]["steps"] == 6 * (len(path) - 1)
    with pytest.raises(BadRecipe, match=r"No lambda among 2 left near 3 of 8 heads: 0\.0015 left 8.*give lambda="):
        run_recipe(recipe("voita", 3, tiny_bert_dir, data, options={"tries": 2}), tmp_path / "none")


def test_where_lambda_is_looked_for_next() -> None:
    """By hand: out by four, then where a line over log lambda meets the budget, clear of the ends."""
    assert next_lambda([], 24) == 0.0015
    assert next_lambda([(0.0015, 48)], 24) == 0.006 and next_lambda([(0.0015, 3)], 24) == 0.0015 / 4
    assert next_lambda([(0.01, 30), (0.04, 18)], 24) == pytest.approx(0.02)
    assert next_lambda([(0.01, 30), (0.04, 14), (0.0025, 48)], 26) == pytest.approx(0.01 * 4**0.25)
    assert next_lambda([(0.01, 48), (0.04, 23)], 24) == pytest.approx(0.01 * 4**0.9)


def test_frozen_weights_stand_still(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    """Pipelined DSP's model, before heads go, is the unpruned one to the bit."""
    whole = run_recipe(recipe("unpruned", None, tiny_bert_dir, data), tmp_path / "whole")
    small = run_recipe(recipe("dsp-pipelined", 8, tiny_bert_dir, data), tmp_path / "same")
    weights = [load(tmp_path / each).state_dict() for each in ("whole", "same")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert small.metrics == whole.metrics and small.costs["selection"]["steps"] == 6


def test_random_draws_are_told(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    records = [
        run_recipe(recipe("random", 3, tiny_bert_dir, data, options={"draws": 5, "choose": way}), tmp_path / way)
        for way in ("median", "best")
    ]
    told = records[0].notes["draws"]
    assert told == records[1].notes["draws"] and len(told["figures"]) == 5
    assert told["mean"] == pytest.approx(sum(told["figures"]) / 5)
    one = run_recipe(recipe("random", 3, tiny_bert_dir, data, options={"draws": 1}), tmp_path / "one")
    assert "draws" not in one.notes
    blind = replace(recipe("random", 3, tiny_bert_dir, data), data={**data, "development": 0})
    with pytest.raises(BadData, match="has 0 examples, too few to score heads on"):
        run_recipe(blind, tmp_path / "blind")


def test_fewer_heads_are_spread_evenly(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    record = run_recipe(recipe("fewer-heads", 3, tiny_bert_dir, data), tmp_path / "out")
    assert list(record.subset.values()) == [[0, 1], [0]]


def test_a_stretch_of_the_schedule(tiny_bert_dir: Path, data: dict[str, str]) -> None:
    """A stage that begins at a later step has the learning rates that the whole training has there."""
    rates = []
    for first in (0, 2):
        settings = TrainingSettings(epochs=1.0, batch_size=8, warmup=0.5, checkpoint_every=0, looks=6)
        bench = workbench(recipe("unpruned", None, tiny_bert_dir, data), settings)
        bench.train(stage=Stage(first=first))
        rates.append([look["learning_rate"] for look in bench.dynamics])
    assert rates[1] == pytest.approx(rates[0][2:]) and len(rates[0]) == 6 and max(rates[0]) == pytest.approx(2e-5)


def test_no_method_named(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    """A short training gets `gradual`, a long one joint DSP; the record names it and says why."""
    said: list[str] = []
    record = run_recipe(recipe("auto", 3, tiny_bert_dir, data), tmp_path / "out", said.append)
    assert record.recipe["method"] == "gradual" and record.signature.startswith("method:gradual|keep:3/8")
    assert any("Method: gradual. 6 steps are too few for joint DSP" in line for line in said)
    assert record.notes["chosen"].startswith("6 steps") and choose(36_816)[0] == "dsp-joint"
    assert {choose(steps)[0] for steps in (1, LONG - 1, LONG)} <= set(METHODS)
    with pytest.raises(BadRecipe, match="Options cooldown belong to a method"):
        recipe("auto", 3, tiny_bert_dir, data, options={"cooldown": 0.5})
    with pytest.raises(BadRecipe, match="Method 'auto' needs a budget"):
        recipe("auto", None, tiny_bert_dir, data)
