"""A grid of recipes in, a directory of records out; what is there already is not done again."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from headcount.experiments.grid import Run
from headcount.experiments.recipe import Recipe
from headcount.experiments.sweep.place import Place
from headcount.experiments.sweep.work import Work


@runtime_checkable
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
        """Return the runs that ended meanwhile, each with None or why it failed.

        Raises:
            DiskFull: See `Work.outcome`.
        """
        ...

    def close(self) -> None:
        """Stop the runs."""
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

    A failed run leaves its error and does not stop the others. After a kill at any moment the same call goes on: runs
    that had begun continue from their last checkpoints, and runs that are still at work are waited for.

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
    place, progress = Place(output.resolve()), Progress()
    works: dict[str, Work] = {}
    with place.alone():
        for run in runs:
            if place.is_done(run):
                place.tidy(run.name)
                progress.done.append(run.name)
            elif not retry and (why := place.failed(run)) is not None:
                progress.failed[run.name] = why
            else:
                works[run.name] = Work(run, place, keep_models, threads)
        progress.pending = list(works)
        watch(progress)
        if works:
            pool = make_pool()
            try:
                _work_off(works, pool, progress, watch)
            finally:
                pool.close()
    return progress


def _work_off(works: Mapping[str, Work], pool: Pool, progress: Progress, watch: Callable[[Progress], None]) -> None:
    progress.size = pool.size
    while progress.pending or progress.running:
        while progress.pending and len(progress.running) < pool.size:
            waiting, running = ([works[name].run for name in some] for some in (progress.pending, progress.running))
            work = works[choose_next(waiting, running).name]
            progress.pending.remove(work.run.name)
            progress.running[work.run.name] = time.monotonic()
            work.place.failure(work.run.name).unlink(missing_ok=True)  # of an earlier try
            pool.start(work)
        for name, why in pool.wait(0.2):
            progress.seconds.append(time.monotonic() - progress.running.pop(name))
            if why is None:
                progress.done.append(name)
            else:
                progress.failed[name] = why
                if not works[name].place.failure(name).is_file():  # its process could not write it
                    works[name].place.record_failure(works[name].run, why)
        watch(progress)


def choose_next(waiting: Sequence[Run], running: Sequence[Run]) -> Run:
    """Return the first run that need not wait for a stage of training that another is at."""
    busy = {_beginning(run.recipe) for run in running}
    return next((run for run in waiting if _beginning(run.recipe) not in busy), waiting[0])


def _beginning(recipe: Recipe) -> str:
    """Return what runs that share their first stage of training have in common: all but budget, method and options.

    It only orders the work; what is shared is decided by `Workbench` from weights, data and settings.
    """
    method = recipe.make_method()
    joint = recipe.method if method is None or method.paradigm == "joint" else ""
    return repr((joint, recipe.model, recipe.task, recipe.data, recipe.training, recipe.seed))
