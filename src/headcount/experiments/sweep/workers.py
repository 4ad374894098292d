"""Runs carried out by processes of this machine, one process a run."""

import subprocess
import time

from headcount.experiments.sweep.work import Work

_EVERY = 0.05
"""Seconds between two looks at the processes."""


class Workers:
    """So many runs at a time, each in a process of its own: one that crashes takes nothing with it.

    Args:
        size: How many.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._running: list[tuple[Work, subprocess.Popen[bytes]]] = []

    def start(self, work: Work) -> None:
        """Begin a run."""
        self._running.append((work, work.begin()))

    def wait(self, seconds: float) -> list[tuple[str, str | None]]:
        """The runs that ended meanwhile, each with None or why it failed.

        Raises:
            DiskFull: See `Work.outcome`.
        """
        end = time.monotonic() + seconds
        while all(process.poll() is None for _, process in self._running) and time.monotonic() < end:
            time.sleep(_EVERY)
        ended = [(work, process.returncode) for work, process in self._running if process.returncode is not None]
        self._running = [(work, process) for work, process in self._running if process.returncode is None]
        return [(work.run.name, work.outcome(code)) for work, code in ended]

    def close(self) -> None:
        """Stop whatever is running."""
        for _, process in self._running:
            process.kill()
        for _, process in self._running:
            process.wait()
        self._running.clear()
