"""Peak memory of a piece of work."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass
class Peak:
    """How much memory a piece of work took.

    Attributes:
        bytes: The most in use at a time, the model included: on a CUDA device if there is one, else this process's.
    """

    bytes: int = 0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Within the block, memory is watched; `bytes` is known when it ends.

    Where the operating system cannot forget an earlier peak (all but Linux), it is the peak of the whole process.
    """
    peak = Peak()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of resident memory, nothing else
    try:
        yield peak
    finally:
        peak.bytes = peak_so_far()


def peak_so_far() -> int:
    """The peak in bytes since the innermost `peak_memory` began."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
