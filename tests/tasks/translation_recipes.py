"""Recipes of translation, with tiny shapes of models and a short training."""

from typing import Any

from headcount import Recipe, TrainingSettings
from recipes import OPTIONS

SHAPE = (
    "new:transformer-base,d_model=16,head_size=4,encoder_layers=2,decoder_layers=1,encoder_heads=2,decoder_heads=2,"
    "cross_heads=2,ffn_size=16,norm=pre"
)
STUDENT = "new:tiny-student,d_model=16,head_size=4,encoder_layers=2,encoder_heads=2,cross_heads=2,ffn_size=16"
QUICK = TrainingSettings(steps=6, batch_tokens=256, lr=1e-2, checkpoint_every=0, looks=3)


def recipe(name: str, keep: float | None, data: dict[str, Any], model: str = SHAPE, **changes: Any) -> Recipe:
    options = OPTIONS.get(name, {})
    settings = {"options": options, "training": QUICK, **changes}
    return Recipe(str(model), name, keep, data, task="translation", **settings)
