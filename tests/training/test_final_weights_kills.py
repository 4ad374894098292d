"""What a training keeps outlives kills: loaded at any moment, it ends with the bits that it would have had."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scripted import Script, far, trained
from torch import nn

from benches import alike, bench, recorded
from headcount.experiments.run import run_recipe
from headcount.settings.training import TrainingSettings
from headcount.training import final_weights as keeping
from headcount.training.final_weights import Keeper
from headcount.training.workbench import Workbench
from kills import Killed, kill_after
from recipes import recipe

moderate = settings(max_examples=60, deadline=None, derandomize=True)
KEEPING = [
    {"smoothing": 0.1},
    {"average": 3},
    {"keep_best": True, "stop_after": 3},
]


@pytest.mark.parametrize("settings", KEEPING, ids=str)
def test_a_killed_training_goes_on(settings: dict[str, Any], tmp_path: Path) -> None:
    """Killed before the first checkpoint, after it, at the last step: what is kept has the bits that it would have had.

    The best look is before the second checkpoint; nothing after it says so.
    """
    script = Script([0.1, 0.9, 0.2, 0.3, 0.5, 0.4])  # which knows weights that it has seen

    def again(name: str) -> Workbench:
        return bench(tmp_path / name, script, looks=6, checkpoint_every=3, **settings)

    straight = again("straight")
    last, steps = trained(straight)
    total = 10 if "stop_after" in settings else 12
    assert len(steps) == total and far(last, steps[-1])
    for begin, taken in ((0, 2), (0, 5), (3, total - 4)):
        with recorded() as more, pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            kill_after(taken, patch)
            again("killed").train()
        assert len(more) == taken and all(map(alike, more, steps[begin:]))
    resumed = again("killed")
    same, more = trained(resumed)
    assert len(more) == total - 9 and all(map(alike, more, steps[9:])) and alike(same, last)
    assert [look["development"] for look in resumed.dynamics] == [look["development"] for look in straight.dynamics]
    assert resumed.costs["training"]["steps"] == total


def test_a_kill_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint without what is kept would be taken for a whole one, and the average would begin anew."""

    def again(name: str) -> Workbench:
        return bench(tmp_path / name, smoothing=0.1, checkpoint_every=3)

    last, steps = trained(again("straight"))
    written = 0

    def write(*args: Any) -> None:
        nonlocal written
        written += 1
        if written == 2:
            raise Killed
        save_file(*args)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(keeping, "save_file", write)
        again("killed").train()
    assert (tmp_path / "killed" / "training" / "checkpoint-6").is_dir()
    same, more = trained(again("killed"))
    assert len(more) == 9 and all(map(alike, more, steps[3:])) and alike(same, last)


@pytest.mark.slow
def test_a_killed_run_goes_on(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    """The whole of it, to the metrics; of a lottery, whose last stage alone keeps anything."""
    options = {"late_reset": 2, "iteration": 1, "heads_per_iteration": 5}
    training = TrainingSettings(
        epochs=2.0, batch_size=8, lr=1e-3, checkpoint_every=2, look_every=2, smoothing=0.2, keep_best=True
    )
    wanted = recipe("lottery", 3, tiny_bert_dir, data, options=options, training=training)
    straight = run_recipe(wanted, tmp_path / "straight")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_after(8, patch)
        run_recipe(wanted, tmp_path / "out")
    resumed = run_recipe(wanted, tmp_path / "out")
    assert (resumed.subset, resumed.metrics) == (straight.subset, straight.metrics)
    looks = [[look.get("development") for look in record.dynamics] for record in (straight, resumed)]
    assert looks[0] == looks[1] and "|smoothing:0.2|best:first|" in resumed.signature
    files = [tmp_path / each / "model.safetensors" for each in ("straight", "out")]
    assert files[0].read_bytes() == files[1].read_bytes()


class Looks:
    """A training of one weight, each step of which is a look; a keeper that may be killed and loaded."""

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings, self.model = settings, nn.Linear(1, 1, bias=False)
        self.keeper = Keeper(settings, measured=True)
        self.taken: list[float] = []

    def look(self, figure: float) -> bool:
        """A step and a look; whether it stops there."""
        self.taken.append(figure)
        nn.init.constant_(self.model.weight, len(self.taken))
        self.keeper.follow(self.model, len(self.taken))
        stops = self.keeper.look(self.model, {"accuracy": figure})
        assert stops == self.keeper.stopped
        return stops

    def reload(self, directory: Path) -> None:
        self.keeper.save(directory)
        self.keeper = Keeper(self.settings, measured=True)
        self.keeper.load(directory, torch.device("cpu"))

    def end(self) -> float:
        self.keeper.finish(self.model)
        return self.model.weight.item()


figures = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3, math.nan]), min_size=1, max_size=12)
keeping_settings = st.builds(
    TrainingSettings,
    stop_after=st.none() | st.integers(1, 4),
    keep_best=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.3]),
)
averaging_settings = st.builds(
    TrainingSettings, average=st.integers(1, 12), smoothing=st.sampled_from([0.0, 0.3]), stop_after=st.none()
)


@moderate
@given(figures, st.none() | st.integers(1, 4))
def test_any_figures(figures: list[float], patience: int | None) -> None:
    """The weight is the number of the look: that of the first best up to the stop, which the definition finds."""
    training = Looks(TrainingSettings(keep_best=True, stop_after=patience))
    worth = [-math.inf if math.isnan(figure) else figure for figure in figures]
    firsts = [worth.index(max(worth[: look + 1])) for look in range(len(worth))]
    stops = [look for look, first in enumerate(firsts) if patience is not None and look - first >= patience]
    end = min(stops, default=len(worth) - 1)
    for look, figure in enumerate(figures[: end + 1]):
        assert training.look(figure) == (look in stops[:1])
    assert training.end() == firsts[end] + 1


@moderate
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), keeping_settings | averaging_settings, st.data())
def test_a_keeper_can_be_loaded_at_any_moment(
    tmp_path_factory: pytest.TempPathFactory, figures: list[int], settings: TrainingSettings, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("keeper")
    straight, killed = Looks(settings), Looks(settings)
    for figure in map(float, figures):
        stops = straight.look(figure), killed.look(figure)
        assert stops[0] == stops[1]
        if data.draw(st.booleans()):
            killed.reload(directory)
        if stops[0]:
            break
    assert killed.keeper.stopped == straight.keeper.stopped and killed.end() == straight.end()
