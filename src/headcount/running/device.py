"""Where models run."""

import os

import torch

from headcount.errors import BadRecipe


def own_device() -> torch.device:
    """The machine's accelerator, or the CPU; of several processes that train together, each has its own."""
    found = torch.accelerator.current_accelerator()
    if found is None:
        return torch.device("cpu")
    torch.accelerator.set_device_index(int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device(found.type, torch.accelerator.current_device_index())


def device_named(name: str | None) -> torch.device:
    """The device of that name: `cpu`, `cuda`, `cuda:1`. None: see `own_device`.

    Raises:
        BadRecipe: This machine has none of that name.
    """
    if name is None:
        return own_device()
    try:
        return torch.empty(0, device=name).device
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        raise BadRecipe(
            f"This machine has no device '{name}': {str(error).splitlines()[0]} Give cpu, or leave it out."
        ) from error
