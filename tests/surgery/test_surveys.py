"""A model is walked once, and what was found is handed on."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from families import tiny
from headcount.anatomy import present
from headcount.anatomy import survey as walk
from headcount.experiments.run import run_recipe
from headcount.surgery.cut import remove_heads
from recipes import recipe


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The class of each model that is walked, in order."""
    found: list[str] = []

    def counted(model: Any) -> Any:
        found.append(type(model).__name__)
        return walk(model)

    for name, module in list(sys.modules.items()):
        if name.startswith("headcount") and vars(module).get("survey") is walk:
            monkeypatch.setattr(module, "survey", counted)
    yield found


def test_removing_heads_walks_the_model_once(walks: list[str]) -> None:
    model = tiny("bert")
    kept = present(model)
    walks.clear()
    remove_heads(model, {kept.head_map.sites[0].name: [1]})
    assert present(model).counts()[0] == 1
    assert len(walks) == 2  # the other is of `present`


def test_a_run_walks_its_model_for_each_thing_it_needs(
    walks: list[str], tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path
) -> None:
    """Once for the map, once for the gates, once for the cut."""
    run_recipe(recipe("dsp-joint", 3, tiny_bert_dir, data), tmp_path / "out")
    assert len(walks) == 3
