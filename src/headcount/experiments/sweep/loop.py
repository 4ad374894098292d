"""A grid of recipes in, a directory of records out; what is there already is not done again."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from headcount.experiments.grid import Run
from headcount.experiments.recipe import Recipe
from headcount.experiments.sweep.place import Place
from headcount.experiments.sweep.work import Work
from headcount.settings.writing import naming_a_full_disk


class Pool(Protocol):
    """What carries runs out: processes of this machine, or a cluster."""

    @property
    def size(self) -> int:
        """How many runs it carries out at a time."""
        ...

    def start(self, work: Work) -> None:
        """Begin a run."""
        ...

    def wait(self, seconds: float) -> list[tuple[str, str | None]]:
        """The runs that ended meanwhile, each with None or why it failed.

        Raises:
            DiskFull: See `Work.outcome`.
        """
        ...

    def close(self) -> None:
        """Stop whatever is running."""
        ...


@dataclass
class Progress:
    """How far a sweep is.

    Attributes:
        done: Names of the runs that have a record; those from before are among them.
        failed: Names of those that failed, and why.
        running: Names of those at work, and since when (`time.monotonic`).
        pending: Names of those that wait.
        seconds: What each run took that ended in this session.
        size: How many are carried out at a time.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    size: int = 1

    @property
    def seconds_left(self) -> float | None:
        """About how long the rest takes; None while no run has ended."""
        if not self.seconds:
            return None
        mean = sum(self.seconds) / len(self.seconds)
        under_way = sum(max(0.0, mean - (time.monotonic() - since)) for since in self.running.values())
        return (mean * len(self.pending) + under_way) / self.size


def run_sweep(
    runs: Sequence[Run],
    output: Path,
    make_pool: Callable[[], Pool],
    *,
    retry: bool = False,
    keep_models: bool = True,
    threads: int = 1,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Carry out the runs that have no record yet.

    A failed run leaves its error and does not stop the others; it is tried again on request. After a kill at any moment
    the same call goes on: runs that had begun from their last checkpoints.

    Args:
        runs: What to do; see `Grid.runs`.
        output: The sweep's directory.
        make_pool: Makes what carries runs out.
        retry: Also do those that failed before.
        keep_models: Write the pruned models; otherwise the records alone.
        threads: CPU threads of each run.
        watch: Told how far it is, several times a second.

    Raises:
        BadRecipe: Another sweep is at work there, or what is there is another recipe's.
        DiskFull: The disk is full. What was done stays; the sweep goes on when it is called again.
    """
    place = Place(output.resolve())
    with place.alone():
        progress, waiting = Progress(), []
        for run in runs:
            if place.is_done(run):
                place.tidy(run.name)
                progress.done.append(run.name)
            elif not retry and (why := place.failed(run)) is not None:
                progress.failed[run.name] = why
            else:
                waiting.append(run)
        progress.pending = [run.name for run in waiting]
        watch(progress)
        if waiting:
            _work_off(waiting, place, make_pool, keep_models, threads, progress, watch)
    return progress


def _work_off(
    waiting: list[Run],
    place: Place,
    make_pool: Callable[[], Pool],
    keep_models: bool,
    threads: int,
    progress: Progress,
    watch: Callable[[Progress], None],
) -> None:
    by_name = {run.name: run for run in waiting}
    pool = make_pool()
    progress.size = pool.size
    try:
        while progress.pending or progress.running:
            while progress.pending and len(progress.running) < pool.size:
                run = choose_next(
                    [by_name[name] for name in progress.pending], [by_name[name] for name in progress.running]
                )
                progress.pending.remove(run.name)
                progress.running[run.name] = time.monotonic()
                place.failure(run.name).unlink(missing_ok=True)  # of an earlier try
                pool.start(Work(run, place, keep_models, threads))
            for name, error in pool.wait(0.2):
                progress.seconds.append(time.monotonic() - progress.running.pop(name))
                if error is None:
                    progress.done.append(name)
                else:
                    progress.failed[name] = error
                    if not place.failure(name).is_file():  # its process could not write it
                        with naming_a_full_disk(place.failure(name)):
                            place.record_failure(by_name[name], error)
            watch(progress)
    finally:
        pool.close()


def choose_next(waiting: Sequence[Run], running: Sequence[Run]) -> Run:
    """Return the first run that need not wait for a stage of training that another is at."""
    busy = {_beginning(run.recipe) for run in running}
    return next((run for run in waiting if _beginning(run.recipe) not in busy), waiting[0])


def _beginning(recipe: Recipe) -> str:
    """What runs have in common that share their first stage of training: all but budget, method and options.

    It only orders the work; what is shared is decided by `Workbench` from weights, data and settings.
    """
    joint = recipe.method if recipe.make_method() is None or recipe.make_method().paradigm == "joint" else ""
    return repr((joint, recipe.model, recipe.task, recipe.data, recipe.training, recipe.seed))
