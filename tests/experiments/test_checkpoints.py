"""A run that was killed, at any moment, ends as the run that nobody killed; another recipe is refused meanwhile."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benches import alike, bench, weights
from headcount.directory.model_files import load
from headcount.errors import BadRecipe
from headcount.experiments.run import run_recipe
from headcount.methods import METHODS
from headcount.settings.training import Stage, TrainingSettings
from headcount.training.stage_files import StageFiles
from kills import Killed, kill_after
from recipes import OPTIONS, recipe, slow, some

SOON, LATER = 5, 9
"""Steps after which runs are killed. The pipelined have 6 steps of their own: then comes the second stage, if there is
one."""


@pytest.mark.parametrize("steps", [SOON, pytest.param(LATER, marks=slow)])
@pytest.mark.parametrize("name", some(sorted(METHODS)))
def test_a_killed_run_goes_on(
    name: str, steps: int, tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two checkpoints, it ends as the run that nobody killed; another recipe is refused meanwhile."""
    epochs = 1.0 if METHODS[name].paradigm == "pipelined" else 2.0
    settings = {"training": TrainingSettings(epochs=epochs, batch_size=8, lr=1e-3, checkpoint_every=2, looks=3)}
    if name in ("lottery", "reinit"):
        settings["options"] = OPTIONS[name] | {"iteration": 3, "optimiser_state": "kept"}
    if name == "voita":
        settings["options"] = {"lambda": "auto", "tries": 2, "tolerance": 1.0}
    wanted = recipe(name, None if name == "unpruned" else 3, tiny_bert_dir, data, **settings)
    straight = run_recipe(wanted, tmp_path / "straight")
    total = sum(cost["steps"] for cost in straight.costs.values())
    killed = min(steps, total - 1)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(int(killed), patch)
        run_recipe(wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists() and list((tmp_path / "out.checkpoints").glob("*/checkpoint-*"))
    if name != "unpruned":
        with pytest.raises(BadRecipe, match="checkpoints of another recipe: keep was 3, is 4"):
            run_recipe(replace(wanted, keep=4), tmp_path / "out")
    resumed = run_recipe(wanted, tmp_path / "out")
    assert (resumed.subset, resumed.metrics) == (straight.subset, straight.metrics)
    assert sum(cost["steps"] for cost in resumed.costs.values()) == total
    assert [_settled(look) for look in resumed.dynamics] == [_settled(look) for look in straight.dynamics]
    assert json.dumps(resumed.notes) == json.dumps(straight.notes)
    one, other = (load(tmp_path / each).state_dict() for each in ("straight", "out"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_checkpoints_belong_to_the_data_and_the_model_they_began_with(
    tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the same names: other examples, other weights."""
    files = {name: tmp_path / f"{name}.jsonl" for name in data}
    for name, file in files.items():
        shutil.copy(data[name], file)
    shutil.copytree(tiny_bert_dir, tmp_path / "model")
    settings = TrainingSettings(epochs=1.0, batch_size=8, lr=1e-3, checkpoint_every=2)
    wanted = recipe("gradual", 3, tmp_path / "model", {n: str(f) for n, f in files.items()}, training=settings)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(4, patch)
        run_recipe(wanted, tmp_path / "out")
    before = files["train"].read_text()
    files["train"].write_text("\n".join(before.splitlines()[:-1]))
    with pytest.raises(BadRecipe, match="another start: the training examples and the examples held out changed since"):
        run_recipe(wanted, tmp_path / "out")
    files["train"].write_text(before)
    weights_file = tmp_path / "model" / "model.safetensors"
    kept = weights_file.read_bytes()
    weights_file.write_bytes(kept[:-4] + b"\0\0\0\0")
    with pytest.raises(BadRecipe, match="another start: the model changed since. Put back what was there"):
        run_recipe(wanted, tmp_path / "out")
    weights_file.write_bytes(kept)
    assert run_recipe(wanted, tmp_path / "out").costs["training"]["steps"] == 6


def _settled(look: dict[str, Any]) -> dict[str, Any]:
    """A look without the training's mean loss since the look before, which a resumed Trainer takes over fewer steps."""
    return {name: value for name, value in look.items() if name not in ("loss", "grad_norm")}


def test_a_kill_between_a_stage_and_what_it_hands_on(
    tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last checkpoint is there, Adam's moments are not yet; sites without heads, whose matrices have none."""
    from headcount.training import stage_files as stages

    options = {"late_reset": 2, "iteration": 1, "heads_per_iteration": 7, "optimiser_state": "kept"}
    settings = TrainingSettings(epochs=1.0, batch_size=8, lr=1e-3, checkpoint_every=2)
    wanted = recipe("lottery", 1, tiny_bert_dir, data, options=options, training=settings)
    straight = run_recipe(wanted, tmp_path / "straight")

    def killed(*args: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(stages, "save_file", killed)
        run_recipe(wanted, tmp_path / "out")
    assert list((tmp_path / "out.checkpoints" / "late").glob("checkpoint-2"))
    resumed = run_recipe(wanted, tmp_path / "out")
    assert (resumed.subset, resumed.metrics) == (straight.subset, straight.metrics)


def test_a_checkpoint_whose_state_was_cut_off_is_none(tmp_path: Path) -> None:
    for step, text in {2: '{"global_step": 2}', 4: '{"global_', 6: ""}.items():
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(text)
    (tmp_path / "checkpoint-8").mkdir()
    assert StageFiles(tmp_path).last_checkpoint() == (str(tmp_path / "checkpoint-2"), 2)


def test_a_shared_stage_is_that_of_weights_configuration_and_task(tmp_path: Path) -> None:
    """Dropout, say, is in the configuration alone; what the weights are judged by is the task's."""

    def place(**changes: Any) -> Path | None:
        on = replace(bench(tmp_path / "run"), shared=tmp_path / "shared", **changes)
        return on._files(Stage(shared=True), 12, 12).directory

    dropping = bench().model
    dropping.config.hidden_dropout_prob = 0.3
    assert place() == place() != place(model=dropping)
    assert place(context={"max_length": 64}) not in (place(), place(context={"max_length": 65}))


def test_a_shared_stage_is_trained_once_also_without_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (replace(bench(tmp_path / name), shared=tmp_path / "shared") for name in "ab")
    first.train(stage=Stage(shared=True))
    kill_after(0, monkeypatch)
    second.train(stage=Stage(shared=True))
    assert alike(weights(first.model), weights(second.model))
    assert second.costs["training"]["steps"] == first.costs["training"]["steps"] == 12


def test_decisions_of_another_recipe_are_not_taken_up(
    tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without checkpoints a killed lottery leaves what it decided, and that is another recipe's too."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(4, patch)
        run_recipe(recipe("lottery", 1, tiny_bert_dir, data), tmp_path / "out")
    assert list((tmp_path / "out.checkpoints").glob("iteration-*.json"))
    with pytest.raises(BadRecipe, match="checkpoints of another recipe: keep was 1, is 6"):
        run_recipe(recipe("lottery", 6, tiny_bert_dir, data), tmp_path / "out")
