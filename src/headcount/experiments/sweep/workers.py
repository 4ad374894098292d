"""Runs carried out by processes of this machine, one process a run."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection, wait
from typing import Any

from headcount.errors import DiskFull
from headcount.experiments.sweep.work import Work

_FULL_DISK = 28
"""The exit code of a process that met a full disk: the system's number for it."""


class Workers:
    """So many runs at a time, each in a process of its own: one that crashes takes nothing with it.

    Args:
        size: How many.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        self._context: Any = multiprocessing.get_context(method)
        # The server has imported what takes long; a run is a fork of it, and starts at once.
        self._context.set_forkserver_preload(["headcount.experiments.run", "headcount.tasks.translation"])
        self._running: dict[str, tuple[Any, Connection, Connection]] = {}

    def start(self, work: Work) -> None:
        """Begin a run; what it says goes to its log."""
        lifeline, held = self._context.Pipe(duplex=False)
        answer, tell = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_carry_out, args=(work, lifeline, tell), name=work.run.name)
        process.start()
        lifeline.close()
        tell.close()
        self._running[work.run.name] = (process, held, answer)

    def wait(self, seconds: float) -> list[tuple[str, str | None]]:
        """The runs that ended meanwhile, each with None or why it failed."""
        ended = wait([process.sentinel for process, _, _ in self._running.values()], timeout=seconds)
        outcomes = []
        for name, (process, held, answer) in list(self._running.items()):
            if process.sentinel not in ended:
                continue
            process.join()
            del self._running[name]
            try:
                error = answer.recv()
            except (EOFError, OSError):  # it died before it could answer, or while it did
                error = _death(process.exitcode)
            held.close()
            answer.close()
            if process.exitcode == _FULL_DISK:
                raise DiskFull(error)
            outcomes.append((name, error))
        return outcomes

    def close(self) -> None:
        """Stop whatever is running."""
        for process, held, answer in self._running.values():
            process.kill()
            process.join()
            held.close()
            answer.close()
        self._running.clear()


def _carry_out(work: Work, lifeline: Connection, tell: Connection) -> None:
    threading.Thread(target=_die_with_the_parent, args=(lifeline,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's to handle
    try:
        with work.logged():
            tell.send(work.carry_out())
    except DiskFull as error:
        tell.send(str(error))
        os._exit(_FULL_DISK)
    except Exception:  # its log has it; a terminal shows the sweep
        os._exit(1)


def _die_with_the_parent(lifeline: Connection) -> None:
    """A sweep that is killed takes its runs along: else the next one would find them still writing."""
    try:
        lifeline.recv()
    except (EOFError, OSError):
        os._exit(1)


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        known = {each.value: each.name for each in signal.Signals}  # not those of real time
        name = known.get(-exitcode, f"signal {-exitcode}")
        memory = "; perhaps it ran out of memory" if -exitcode == signal.SIGKILL else ""
        return f"The process was killed by {name}{memory}."
    return f"The process ended with exit code {exitcode}. Its log says more."
