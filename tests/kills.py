"""Killing a run in the midst of its training."""

from typing import Any

import pytest

from headcount.training.callbacks import GatesCallback


class Killed(Exception):
    """What a kill looks like from inside."""


def kill_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    """Raise before the optimiser step of that number, counted over all stages of a run."""
    step, taken = GatesCallback.on_optimizer_step, 0

    def on_optimizer_step(*args: Any, **kwargs: Any) -> None:
        nonlocal taken
        if taken == steps:
            raise Killed
        taken += 1
        step(*args, **kwargs)

    patch.setattr(GatesCallback, "on_optimizer_step", on_optimizer_step)
