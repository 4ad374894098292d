"""What commands have in common: arguments, how their values are read, and what is set up before work begins."""

import logging
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from headcount.cli.flags import Flags, meaning
from headcount.errors import BadRecipe
from headcount.settings.data import DATA
from headcount.settings.recipe import RecipeSettings
from headcount.settings.schema import require_least
from headcount.settings.training import TrainingSettings

MOST = 1024
"""More are a slip of the finger, and some systems cannot start them."""
Model = Annotated[str, Parameter(help="A model directory, or a name on the Hub.")]
Output = Annotated[Path, Parameter(["--output", "-o"], help="Directory to write; new or empty.")]
Json = Annotated[bool, Parameter("--json", help="Print plain data instead of a table.")]
Threads = Annotated[int | None, Parameter(help="CPU threads. Default: torch's own choice.")]
Only = Annotated[
    list[str] | None,
    Parameter(help="Only runs with all of these in their names, whole between hyphens: sst2, dsp-joint, k12."),
]
Workers = Annotated[int | None, Parameter(help="Runs at a time on this machine. Default: 1.")]
Ray = Annotated[
    str | None, Parameter(help="Instead, on a Ray cluster: host:port, or auto. The output is on shared storage.")
]
RayCpus = Annotated[float | None, Parameter(help="Cores of a run on Ray; fractions are allowed. Default: 1.")]
RayGpus = Annotated[float | None, Parameter(help="GPUs of a run on Ray; fractions are allowed. Default: 0.")]
ThreadsOfARun = Annotated[
    int | None, Parameter("--threads", help="CPU threads of a run. Default: the cores, shared out.")
]
Task = Annotated[str, Parameter(help=meaning(RecipeSettings, "task"))]
Seed = Annotated[int, Parameter(help=meaning(RecipeSettings, "seed"))]

OPTIONS = Group("Options", sort_key=0)
DATA_FLAGS = Flags(
    Group("Data", sort_key=1), DATA, leave_out=frozenset({"seed"}), rest="data",
    example="beam=1",
)  # fmt: skip
TRAINING_FLAGS = Flags(
    Group("Training", sort_key=2), dict.fromkeys(DATA, TrainingSettings),
    {task: kind.training for task, kind in DATA.items()}, rest="training",
    example="keep_best=true",
)  # fmt: skip


def names(text: str | None) -> tuple[str, ...] | None:
    """Names between commas."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


def require_sane(**counts: int | None) -> None:
    """Make sure that numbers of threads or processes, where they are given, are none that a system cannot start.

    Raises:
        BadRecipe: One is; the message names it.
    """
    require_least(1, **counts)
    for name, count in counts.items():
        if count is not None and count > MOST:
            raise BadRecipe(f"Got {name} {count}. Give {MOST} or fewer; more than the cores do not help.")


def set_up(threads: int | None) -> None:
    """Quiet the libraries, and set the CPU threads; None leaves torch's own choice."""
    import torch

    from headcount.running.quiet import silence_libraries

    silence_libraries()
    logging.getLogger("headcount").setLevel(logging.WARNING)
    require_sane(threads=threads)
    if threads is not None:
        torch.set_num_threads(threads)
