"""Rewinding the remaining heads to an earlier step of the training."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from headcount.surgery.cut import remove_heads
from headcount.training.workbench import Workbench
from headcount.units.map import Subset


def rewind(
    bench: Workbench, whole: Any, subset: Subset, moments: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, dict[str, Tensor]]:
    """Put the model of the late-resetting point on the workbench, with these heads only.

    Args:
        bench: The workbench whose model is replaced.
        whole: The model at that point, with all of its heads. It is copied.
        subset: The heads that stay.
        moments: Adam's state at that point, by parameter. Empty: none.

    Returns:
        Adam's state at that point for the remaining weights.
    """
    bench.model = remove_heads(copy.deepcopy(whole), subset)
    cut: dict[str, dict[str, Tensor]] = {name: {"step": state["step"]} for name, state in moments.items()}
    for key in ("exp_avg", "exp_avg_sq") if moments else ():
        # Moments must be cut as their weight is: put them in its place and cut the model.
        holder = copy.deepcopy(whole)
        for name, parameter in holder.named_parameters():
            parameter.data = moments[name][key].clone() if name in moments else parameter.data
        for name, parameter in remove_heads(holder, subset, check=False).named_parameters():
            if name in moments:
                cut[name][key] = parameter.data
    return cut
