"""Joint differentiable subset pruning with settings for trainings of hundreds of steps."""

from dataclasses import dataclass

from headcount.methods.dsp_joint import DSPJoint
from headcount.settings.schema import ShareOrSteps


@dataclass(frozen=True)
class DSPJointShort(DSPJoint):
    """Joint DSP for short trainings: other defaults, none of them the paper's; see docs/choose-a-method.md.

    Attributes:
        unpruned: The model has learned something before its heads compete.
        cooling_noise: The weights settle on the heads that stay.
        mean_one: Heads of a trained model are not shrunk to K/H while the gates are hot.
    """

    unpruned: ShareOrSteps = 0.2
    cooling_noise: bool = True
    mean_one: bool = True
