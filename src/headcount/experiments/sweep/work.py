"""One run of a sweep: the command that carries it out as a process, and what the sweep reads when that ended."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from headcount.errors import DiskFull, PruningError
from headcount.experiments.grid import Run
from headcount.experiments.run import run_recipe
from headcount.experiments.sweep.place import Place
from headcount.settings.records import RECORD_NAME, Record, read_record
from headcount.settings.writing import naming_a_full_disk, write_atomically

LONGEST = 2000
"""Characters of the recorded reason of a failure. The log has all of it."""


@dataclass(frozen=True)
class Work:
    """A run and how to carry it out.

    Attributes:
        run: What to do.
        place: The sweep's directory, on storage that all processes share.
        keep_model: Write the pruned model; otherwise the record alone.
        threads: CPU threads.
    """

    run: Run
    place: Place
    keep_model: bool = True
    threads: int = 1

    @property
    def command(self) -> list[str]:
        """The command that carries the run out."""
        return [
            # -P: Python then imports no file of the working directory in place of a library of that name.
            sys.executable, "-P", "-m", "headcount", "run", str(self.place.recipe(self.run.name)),
            "--output", str(self.place.root), "--in-sweep", "--model" if self.keep_model else "--no-model",
            "--threads", str(self.threads),
        ]  # fmt: skip

    def begin(self, directory: Path | None = None) -> subprocess.Popen[bytes]:
        """Write the recipe and start the command. Its output goes to the run's log.

        Args:
            directory: Where the command is given. None: here.

        Raises:
            DiskFull: There is no room for the recipe or the log.
        """
        name, place = self.run.name, self.place
        with naming_a_full_disk(place.recipe(name)), open(place.log(name), "ab") as log:
            write_atomically(place.recipe(name), json.dumps(self.run.recipe.to_json(), indent=1))
            return subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=directory
            )

    def outcome(self, code: int) -> str | None:
        """Read why the run failed, when its process has ended with that exit code; None if it left its record.

        Raises:
            DiskFull: The disk is full, and no other run would do better.
        """
        if self.place.is_done(self.run):
            return None
        if code == DiskFull.exit_code:
            raise DiskFull(
                f"The disk is full: {self.run.name} was not done. Free some space and give the same command again. "
                f"{self.place.log(self.run.name)} says more."
            )
        return self.place.failed(self.run) or how_it_ended(code)

    def carry_out(self) -> Record:
        """Carry the run out in this process. It waits for another process at the same run, and takes its record.

        Returns:
            The run's record.

        Raises:
            Exception: Whatever went wrong; it stands in the record of the failure too.
        """
        name, place = self.run.name, self.place
        output, shared = place.run(name), place.root / "shared"
        place.make()
        _log(f"process {os.getpid()}")
        with place.alone_at(name):
            try:
                if place.is_done(self.run):
                    record = read_record(output / RECORD_NAME)
                else:
                    with naming_a_full_disk(output):
                        record = run_recipe(self.run.recipe, output, _log, shared, self.keep_model)
            except DiskFull:
                raise
            except Exception as error:
                why = " ".join(str(error).split())
                why = why if isinstance(error, PruningError) else f"{type(error).__name__}: {why}"
                place.record_failure(self.run, why[:LONGEST])
                raise
            place.failure(name).unlink(missing_ok=True)
        return record


def how_it_ended(code: int) -> str:
    """Return the end of a process in words: a negative code is the number of the signal that killed it."""
    if code >= 0:
        return f"The process ended with exit code {code}. Its log says more."
    known = {each.value: each.name for each in signal.Signals}  # not those of real time
    memory = "; perhaps it ran out of memory" if -code == signal.SIGKILL else ""
    return f"The process was killed by {known.get(-code, f'signal {-code}')}{memory}."


def _log(line: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", file=sys.stderr, flush=True)
