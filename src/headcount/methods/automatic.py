"""The choice of a method for a recipe that names none."""

AUTO = "auto"
"""Method name in a recipe that leaves the choice to headcount."""
LONG = 10_000
"""Least number of optimiser steps for joint DSP. Our trainings have below 2,000 steps; the paper's have 36,816.
In ours, joint DSP equals `gradual` on an easy task only. See docs/choose-a-method.md."""


def choose(steps: int) -> tuple[str, str]:
    """Return the method for a training of so many optimiser steps, and the reason (docs/choose-a-method.md)."""
    if steps < LONG:
        return "gradual", f"{steps} steps are too few for joint DSP's scores to settle; heads leave gradually instead"
    return "dsp-joint", f"{steps} steps are enough for joint DSP, as in its paper"
