"""Which method to use when nobody named one."""

AUTO = "auto"
"""What stands for a method in a recipe that leaves the choice to headcount."""
LONG = 10_000
"""Optimiser steps from which joint DSP is taken. Ours end below 2,000, where it is level with `gradual` on an
easy task only; the paper's have 36,816. See docs/choose-a-method.md."""


def choose(steps: int) -> tuple[str, str]:
    """The method for a training of so many optimiser steps, and why; see docs/choose-a-method.md."""
    if steps < LONG:
        return "gradual", f"{steps} steps are too few for joint DSP's scores to settle; heads leave gradually instead"
    return "dsp-joint", f"{steps} steps are enough for joint DSP, as in its paper"
