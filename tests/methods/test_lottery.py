"""The lottery: what it needs, its steps, rewinding to the late-resetting point, and its structure with new weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MPNetConfig, MPNetModel

from benches import bench
from families import FAMILIES
from headcount.anatomy import present
from headcount.directory.model_files import load
from headcount.errors import BadData, UnsupportedModel
from headcount.experiments.run import run_recipe
from headcount.methods.lottery import Lottery
from headcount.methods.reinit import Reinit
from headcount.methods.rewinding import rewind
from headcount.settings.training import SCHEDULES, Stage, TrainingSettings
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from recipes import OPTIONS, QUICK, recipe, slow, workbench


def test_attention_that_cannot_be_read_is_known_before_the_training(
    tiny_tokenizer: Any, data: dict[str, str], tmp_path: Path
) -> None:
    settings = FAMILIES["mpnet"].settings | {"vocab_size": len(tiny_tokenizer)}
    MPNetModel(MPNetConfig(**settings)).save_pretrained(tmp_path / "mpnet")
    tiny_tokenizer.save_pretrained(tmp_path / "mpnet")
    with pytest.raises(UnsupportedModel, match="cannot be read.*Score heads by another importance"):
        run_recipe(recipe("lottery", 3, tmp_path / "mpnet", data), tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
    options = OPTIONS["lottery"] | {"importance": "gradient"}
    record = run_recipe(recipe("lottery", 3, tmp_path / "mpnet", data, options=options), tmp_path / "out")
    assert sum(map(len, record.subset.values())) == 3


def test_a_development_set_too_small(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    few = replace(recipe("lottery", 3, tiny_bert_dir, data), data={**data, "development": 4})
    with pytest.raises(BadData, match=r"has 4 examples, too few to score heads on; at least 16.*--development 64"):
        run_recipe(few, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("most", [pytest.param(None, marks=slow), 1])
def test_the_lottery_goes_step_by_step(
    most: int | None, tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path
) -> None:
    options = {"late_reset": 2, "iteration": 1, "heads_per_iteration": 2, "max_per_site": most}
    record = run_recipe(recipe("lottery", 2, tiny_bert_dir, data, options=options), tmp_path / "out")
    steps = [set(look["kept"]) for look in record.dynamics if look.get("stage") == "scoring"]
    assert [len(kept) for kept in steps] == [6, 4, 2] and record.notes["iterations"] == 3
    assert steps[2] < steps[1] < steps[0]
    if most == 1:
        assert [sum(index < 4 for index in kept) for kept in steps] == [3, 2, 1]
    assert record.costs["training"]["steps"] == 6 and record.costs["selection"]["steps"] == 3


def test_rewinding_restores_weights_and_moments(tiny_bert_dir: Path, data: dict[str, str]) -> None:
    """After rewinding, the survivors' weights and Adam's moments are those of the late-resetting point."""
    bench = workbench(recipe("lottery", 3, tiny_bert_dir, data), QUICK)
    moments = bench.train(stage=Stage("late", steps=3, keeps_moments=True))
    ticket = bench.model
    site = present(ticket).head_map.sites[0].name
    subset = present(ticket) - present(ticket).head_map.subset({site: [0, 2]})
    adam = rewind(bench, ticket, subset, moments)
    name = f"{site}.self.query.weight"
    rows_left = [row for head in (1, 3) for row in range(8 * head, 8 * head + 8)]
    assert torch.equal(bench.model.get_parameter(name), ticket.get_parameter(name)[rows_left])
    for key in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(adam[name][key], moments[name][key][rows_left]) and adam[name][key].any()
    assert adam[name]["step"] == 3 and len(present(ticket)) == 8


@slow
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_can_be_rewound(
    schedule: str, tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path
) -> None:
    training = replace(QUICK, schedule=schedule, warmup=0.2)
    record = run_recipe(recipe("lottery", 5, tiny_bert_dir, data, training=training), tmp_path / "out")
    assert record.costs["training"]["steps"] == 6


@slow
def test_reinit_takes_a_structure_and_new_weights(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    ticket = run_recipe(recipe("lottery", 3, tiny_bert_dir, data), tmp_path / "ticket")
    still = TrainingSettings(epochs=1.0, batch_size=8, lr=1e-20, checkpoint_every=0)
    fresh = run_recipe(recipe("reinit", 3, tmp_path / "ticket", data, training=still), tmp_path / "fresh")
    assert fresh.subset == ticket.subset and "selection" not in fresh.costs
    from_whole = run_recipe(recipe("reinit", 3, tiny_bert_dir, data), tmp_path / "whole")
    lottery = run_recipe(recipe("lottery", 3, tiny_bert_dir, data), tmp_path / "lottery")
    assert from_whole.subset == lottery.subset and from_whole.costs["training"]["steps"] == 6
    # What chose: the start, and the little trainings; the ticket itself is trained by the lottery alone.
    assert (
        from_whole.costs["selection"]["steps"] == lottery.costs["selection"]["steps"] + OPTIONS["reinit"]["late_reset"]
    )
    weights = [load(tmp_path / each).state_dict() for each in ("ticket", "fresh")]
    drawn = [name for name, weight in weights[0].items() if weight.dim() == 2]
    assert drawn and not any(torch.equal(weights[0][name], weights[1][name]) for name in drawn)
    assert weights[1]["classifier.weight"].std() == pytest.approx(0.02, rel=0.5)  # as BERT starts


def test_reinit_may_start_from_the_very_first_step(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    """Then nothing was trained before the iterations."""
    options = OPTIONS["reinit"] | {"late_reset": 0}
    record = run_recipe(recipe("reinit", 5, tiny_bert_dir, data, options=options), tmp_path / "out")
    assert record.costs["training"]["steps"] == 6 and record.costs["selection"]["steps"] == 1


def test_reinit_keeps_how_a_model_generates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A multilingual model would else translate into another language."""
    monkeypatch.setattr(Workbench, "train", lambda *args, **given: {})
    on = bench()
    on.model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_layer=2, n_head=4, n_embd=16, n_positions=16))
    on.model.generation_config.update(num_beams=5, forced_bos_token_id=17)
    before = on.model
    Reinit().select(on, Budget(8))
    found = on.model.generation_config
    assert on.model is not before and (found.num_beams, found.forced_bos_token_id) == (5, 17)
    assert not hasattr(on.model.config, "quantization_config")


def test_scores_without_examples_need_none(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    options = OPTIONS["lottery"] | {"importance": "magnitude"}
    few = recipe("lottery", 3, tiny_bert_dir, data, options=options)
    record = run_recipe(replace(few, data={**few.data, "development": 4}), tmp_path / "out")
    assert sum(map(len, record.subset.values())) == 3


@pytest.mark.parametrize("schedule", ["continue", "restart"])
@pytest.mark.parametrize(("data_order", "order", "skip"), [("new", 3, 0), ("same", 0, 0), ("onward", 0, 2)])
def test_what_an_iteration_sees(schedule: str, data_order: str, order: int, skip: int) -> None:
    lottery = Lottery(schedule=schedule, data_order=data_order)
    first = 2 if schedule == "continue" else 0
    assert lottery.stage_of(bench(), late=2, number=3, steps=1) == Stage(
        "iteration-3", "selection", 1, first, 12, order=order, skip=skip
    )
    assert lottery.stage_of(bench(), late=2, number=3) == Stage(
        steps=10, first=first, total=12, order=order, skip=skip, last=True
    )  # fmt: skip
