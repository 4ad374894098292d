"""One run of a sweep: where it goes, and how it is carried out, in whichever process or machine."""

import os
import shutil
import sys
import time
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from headcount.errors import BadRecipe, CorruptRecord, DiskFull, PruningError
from headcount.experiments.grid import Run
from headcount.experiments.recipe import Recipe, differences
from headcount.methods.automatic import AUTO
from headcount.settings.records import RECORD_NAME, Record, library_versions, machine, read_record
from headcount.settings.writing import naming_a_full_disk

LONGEST = 2000
"""Characters of why a run failed; its log has all of it. A longer line would not go through a pipe in one piece."""


@dataclass(frozen=True)
class Place:
    """The directory of a sweep.

    Attributes:
        root: `runs/NAME` is a run's model and record, `failed/NAME.json` a failed run's, `logs/NAME.log` what it said,
            and `shared` has the stages of training that runs have in common.
    """

    root: Path

    def run(self, name: str) -> Path:
        """The output directory of a run."""
        return self.root / "runs" / name

    def failure(self, name: str) -> Path:
        """The record of a run that failed."""
        return self.root / "failed" / f"{name}.json"

    def log(self, name: str) -> Path:
        """What a run said."""
        return self.root / "logs" / f"{name}.log"

    def is_done(self, run: Run) -> bool:
        """Whether the run's record is there.

        Raises:
            BadRecipe: It is another recipe's.
        """
        file = self.run(run.name) / RECORD_NAME
        if not file.is_file():
            return False
        try:
            found = read_record(file).recipe
        except CorruptRecord as error:
            raise BadRecipe(f"{error} Or name another output.") from error
        wanted = run.recipe.to_json()
        if run.recipe.method == AUTO:  # the record has the method that was chosen
            wanted["method"] = found.get("method")
        if changed := differences(_today(found), wanted):
            raise BadRecipe(
                f"{file.parent} holds another recipe: {'; '.join(changed)}. Name another output, or remove that run."
            )
        return True

    def failed(self, run: Run) -> str | None:
        """Why the run failed before; None if it did not, or if what failed under its name was another recipe."""
        try:
            found = read_record(self.failure(run.name))
        except (FileNotFoundError, CorruptRecord):
            return None
        return None if differences(_today(found.recipe), run.recipe.to_json()) else found.error or ""

    @contextmanager
    def alone(self, names: Collection[str] = ()) -> Iterator[None]:
        """Only one sweep at a time in this directory; what a killed one left of these runs is removed.

        Raises:
            BadRecipe: There is another, or the directory is a model's.
        """
        if self.root.exists() and (not self.root.is_dir() or (self.root / "config.json").is_file()):
            what = "a model's directory" if self.root.is_dir() else "a file"
            raise BadRecipe(f"Output '{self.root}' is {what}. Name another directory for the sweep.")
        for name in ("runs", "failed", "logs", "shared"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.root / ".lock", timeout=0):
                for left in self._left(names):
                    shutil.rmtree(left, ignore_errors=True)
                yield
        except Timeout:
            raise BadRecipe(f"Another sweep is at work in {self.root}. Wait for it, or name another output.") from None

    def _left(self, names: Collection[str]) -> Iterator[Path]:
        """What processes that were killed left: what was half-written, and checkpoints of runs that are whole.

        Nothing else: a user may have named a directory with a `runs/` of somebody else's.
        """
        for aside in (self.root / "runs").glob(".*"):
            if aside.is_dir() and aside.name[1:].rpartition(".")[0] in names:  # see `writing_directory`
                yield aside
        for name in names:
            if (self.run(name) / RECORD_NAME).is_file():
                yield self.root / "runs" / f"{name}.checkpoints"


@dataclass(frozen=True)
class Work:
    """A run, with all that is needed to carry it out in another process or on another machine.

    Attributes:
        run: What to do.
        place: Where, on storage that all processes share.
        keep_model: Write the pruned model; otherwise the record alone.
        threads: CPU threads.
    """

    run: Run
    place: Place
    keep_model: bool
    threads: int

    def carry_out(self) -> str | None:
        """Do it. Everything that comes out goes to the disk.

        Returns:
            None, or why it failed, in a line.

        Raises:
            DiskFull: No other run would do better.
        """
        import torch

        from headcount.experiments.run import run_recipe
        from headcount.running.quiet import silence_libraries

        silence_libraries()
        torch.set_num_threads(self.threads)
        name, place = self.run.name, self.place
        # What it says, and the record of a failure, need room too.
        with naming_a_full_disk(place.run(name)), FileLock(place.root / "runs" / f".{name}.lock"):
            try:
                with naming_a_full_disk(place.run(name)):
                    if not place.is_done(self.run):  # by a process that was thought to be dead
                        run_recipe(self.run.recipe, place.run(name), _log, place.root / "shared", self.keep_model)
            except DiskFull:
                raise
            except Exception as error:
                traceback.print_exc()
                why = " ".join(str(error).split())
                why = (why if isinstance(error, PruningError) else f"{type(error).__name__}: {why}")[:LONGEST]
                record_failure(self.run, place, why)
                return why
            place.failure(name).unlink(missing_ok=True)
        return None

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Within the block, what this process says goes to the run's log.

        Raises:
            DiskFull: There is no room for it.
        """
        with naming_a_full_disk(self.place.log(self.run.name)):
            before = {stream: os.dup(stream) for stream in (1, 2)}
            try:
                with open(self.place.log(self.run.name), "a", encoding="utf-8") as log:
                    for stream in before:
                        os.dup2(log.fileno(), stream)
                print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} process {os.getpid()}", file=sys.stderr, flush=True)
                yield
                sys.stdout.flush()
                sys.stderr.flush()
            except Exception:
                traceback.print_exc()
                raise
            finally:
                for stream, duplicate in before.items():
                    os.dup2(duplicate, stream)
                    os.close(duplicate)


def _today(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recorded recipe with the fields that recipes have got since, at their defaults."""
    try:
        return Recipe.from_plain(recipe).to_json()
    except PruningError:
        return recipe


def record_failure(run: Run, place: Place, error: str) -> None:
    """Write the record of a run that failed."""
    record = Record(
        signature="", recipe=run.recipe.to_json(), subset={}, heads="", metrics={}, versions=library_versions(),
        name=run.name, machine=machine(), error=error,
    )  # fmt: skip
    record.write(place.failure(run.name))


def _log(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
