"""Joint differentiable subset pruning with defaults for trainings of hundreds of steps."""

from dataclasses import dataclass

from headcount.methods.dsp_joint import DSPJoint
from headcount.settings.schema import ShareOrSteps


@dataclass(frozen=True)
class DSPJointShort(DSPJoint):
    """Joint DSP with defaults for short trainings. These are not the paper's: see docs/choose-a-method.md.

    Attributes:
        unpruned: Steps, as a share or number, in which the model trains with all heads before the heads compete.
        cooling_noise: Gumbel noise shrinks with the temperature, so that the weights adapt to the heads that stay.
        mean_one: Soft gates start at one, so that a high temperature does not scale trained heads to K/H.
    """

    unpruned: ShareOrSteps = 0.2
    cooling_noise: bool = True
    mean_one: bool = True
