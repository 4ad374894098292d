"""Back to an earlier point of the training, with the heads that are left."""

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
    """Put the model as it was at the late-resetting point on the workbench, with these heads only.

    Args:
        bench: Its model is replaced.
        whole: The model at that point, with all of its heads; it is copied.
        subset: The heads that stay.
        moments: What Adam knew at that point, by parameter; empty: nothing.

    Returns:
        What Adam knew there of the weights that are left.
    """
    bench.model = remove_heads(copy.deepcopy(whole), subset)
    cut: dict[str, dict[str, Tensor]] = {name: {"step": state["step"]} for name, state in moments.items()}
    for key in ("exp_avg", "exp_avg_sq") if moments else ():
        # The moments of a weight lose what the weight loses: they are put in its place and cut.
        holder = copy.deepcopy(whole)
        for name, parameter in holder.named_parameters():
            parameter.data = moments[name][key].clone() if name in moments else parameter.data
        for name, parameter in remove_heads(holder, subset, check=False).named_parameters():
            if name in moments:
                cut[name][key] = parameter.data
    return cut
