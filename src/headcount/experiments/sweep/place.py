"""The directory of a sweep: where each run's recipe, output, failure and log stand, and which runs are done."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from headcount.errors import BadRecipe, CorruptRecord, PruningError
from headcount.experiments.grid import Run
from headcount.experiments.recipe import Recipe, differences
from headcount.methods.automatic import AUTO
from headcount.settings.records import RECORD_NAME, Record, library_versions, machine, read_record
from headcount.settings.writing import naming_a_full_disk


@dataclass(frozen=True)
class Place:
    """The directory of a sweep.

    Attributes:
        root: `recipes/NAME.json` is a run's recipe, `runs/NAME` its model and record, `failed/NAME.json` the record of
            a failed run, `logs/NAME.log` what the run said. `shared` has the stages of training that runs share.
    """

    root: Path

    def recipe(self, name: str) -> Path:
        """The file of a run's recipe."""
        return self.root / "recipes" / f"{name}.json"

    def run(self, name: str) -> Path:
        """The output directory of a run."""
        return self.root / "runs" / name

    def failure(self, name: str) -> Path:
        """The record of a run that failed."""
        return self.root / "failed" / f"{name}.json"

    def log(self, name: str) -> Path:
        """What a run said."""
        return self.root / "logs" / f"{name}.log"

    def make(self) -> None:
        """Make the directory and its folders.

        Raises:
            BadRecipe: It is a file, or a model's directory.
        """
        if self.root.exists() and (not self.root.is_dir() or (self.root / "config.json").is_file()):
            what = "a model's directory" if self.root.is_dir() else "a file"
            raise BadRecipe(f"Output '{self.root}' is {what}. Name another directory for the sweep.")
        for name in ("recipes", "runs", "failed", "logs", "shared"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other sweeps out of this directory within the block.

        Raises:
            BadRecipe: Another sweep is at work; also see `make`.
        """
        self.make()
        try:
            with FileLock(self.root / ".lock", timeout=0):
                yield
        except Timeout:
            raise BadRecipe(f"Another sweep is at work in {self.root}. Wait for it, or name another output.") from None

    @contextmanager
    def alone_at(self, name: str) -> Iterator[None]:
        """Wait for other processes at this run, tidy up after them, and keep others out within the block."""
        with FileLock(self.root / "runs" / f".{name}.lock"):  # the system lifts it when a process dies
            self.tidy(name)
            yield

    def tidy(self, name: str) -> None:
        """Remove what a killed run left half-written, and the checkpoints of a run that has its record.

        Nothing else: a user may have named a directory with a `runs/` of somebody else's.
        """
        for aside in self.run(name).parent.glob(".*"):
            if aside.is_dir() and aside.name[1:].rpartition(".")[0] == name:  # see `writing_directory`
                shutil.rmtree(aside, ignore_errors=True)
        if (self.run(name) / RECORD_NAME).is_file():
            shutil.rmtree(self.root / "runs" / f"{name}.checkpoints", ignore_errors=True)

    def is_done(self, run: Run) -> bool:
        """Whether the run's record is there.

        Raises:
            BadRecipe: It is another recipe's.
        """
        directory = self.run(run.name)
        try:
            found = read_record(directory / RECORD_NAME).recipe
        except FileNotFoundError:
            return False
        except CorruptRecord as error:
            raise BadRecipe(f"{error} Or name another output.") from error
        if changed := _changes(found, run.recipe):
            raise BadRecipe(
                f"{directory} holds another recipe: {'; '.join(changed)}. Name another output, or remove that run."
            )
        return True

    def failed(self, run: Run) -> str | None:
        """Why the run failed before; None if it did not, or if what failed under its name was another recipe."""
        try:
            found = read_record(self.failure(run.name))
        except (FileNotFoundError, CorruptRecord):
            return None
        return None if _changes(found.recipe, run.recipe) else found.error or ""

    def record_failure(self, run: Run, error: str) -> None:
        """Write the record of a run that failed.

        Raises:
            DiskFull: The disk is full.
        """
        record = Record(
            signature="", recipe=run.recipe.to_json(), subset={}, heads="", metrics={}, versions=library_versions(),
            name=run.name, machine=machine(), error=error,
        )  # fmt: skip
        with naming_a_full_disk(self.failure(run.name)):
            record.write(self.failure(run.name))


def _changes(recorded: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """Return what differs between a recorded recipe and this one, a line each."""
    wanted = recipe.to_json()
    if recipe.method == AUTO:  # the record has the method that was chosen
        wanted["method"] = recorded.get("method")
    with suppress(PruningError):
        recorded = Recipe.from_plain(recorded).to_json()  # recipes have got fields since: those have their defaults
    return differences(recorded, wanted)
