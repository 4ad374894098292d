"""A run's signature: what decides its numbers is in it."""

from dataclasses import fields, replace
from typing import Any

import pytest

from headcount.experiments.recipe import Recipe
from headcount.settings.training import TrainingSettings


def test_the_signature_says_how() -> None:
    training = TrainingSettings(
        steps=900, batch_tokens=4096, gradient_accumulation=2, warmup=4000, smoothing=0.0001, average=4
    )
    found = Recipe("m", "unpruned", None, {"train": "a", "validation": "b"}, training=training).signature(8, 8, 9)
    for part in ("steps:900", "batch:8192t", "warmup:4000", "smoothing:0.0001", "average:4"):
        assert f"|{part}|" in found
    assert "epochs" not in found and "best" not in found


OTHERS = {
    "epochs": 2.0, "steps": 7, "batch_size": 5, "batch_tokens": 9, "lr": 0.5, "schedule": "cosine", "warmup": 3,
    "weight_decay": 0.5, "max_grad_norm": 0.5, "gradient_accumulation": 2, "group_by_length": False,
    "precision": "bfloat16", "adam_beta2": 0.98, "smoothing": 0.5, "average": 2, "keep_best": True, "stop_after": 3,
    "judge_by": "macro_f1",
}  # fmt: skip
NO_SAY = {"checkpoint_every", "looks", "look_every"}
"""Settings that decide no number; looks do where weights are chosen at them."""


@pytest.mark.parametrize("name", [each.name for each in fields(TrainingSettings) if each.name not in NO_SAY])
def test_every_setting_that_decides_a_number_is_in_the_signature(name: str) -> None:
    def signature(**changes: Any) -> str:
        data = {"train": "a", "validation": "b"}
        return Recipe("m", "unpruned", None, data, training=TrainingSettings(**changes)).signature(8, 8, 9)

    besides = {"keep_best": True} if name == "judge_by" else {}
    assert signature(**besides, **{name: OTHERS[name]}) != signature(**besides)


@pytest.mark.parametrize("choice", [{"average": 5}, {"keep_best": True}, {"stop_after": 2}])
@pytest.mark.parametrize("change", [{"looks": 3}, {"look_every": 10}])
def test_looks_that_choose_weights_are_in_the_signature(choice: dict[str, Any], change: dict[str, Any]) -> None:
    recipes = [
        Recipe("m", "unpruned", None, {"train": "a", "validation": "b"}, training=TrainingSettings(**choice, **more))
        for more in ({}, change)
    ]
    assert recipes[0].signature(8, 8, 9) != recipes[1].signature(8, 8, 9)


@pytest.mark.parametrize(("name", "value"), [("validation_limit", 3), ("development", 4), ("max_length", 5)])
def test_what_is_measured_on_is_in_the_signature(name: str, value: int) -> None:
    recipe = Recipe("m", "unpruned", None, {"train": "a", "validation": "b"})
    assert replace(recipe, data={**recipe.data, name: value}).signature(8, 8, 9) != recipe.signature(8, 8, 9)
