"""What a person sees: tables and lines on standard output, progress on standard error. Plain data for `--json`."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text


def print_table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> None:
    """Print rows that have the same columns; nothing of no rows."""
    if not rows:
        return
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name, overflow="fold")  # in a narrow terminal a number is broken, never cut off
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    _console().print(table)


def print_lines(*lines: str) -> None:
    """Print lines as they are, wrapped by the terminal only."""
    for line in lines:
        _console().print(line, highlight=False, soft_wrap=True)


def print_json(data: Any) -> None:
    """Print plain data."""
    print(json.dumps(data, indent=1, default=str))


def confirm(question: str) -> bool:
    """Ask, on standard error; no answer is no."""
    print(f"{question} [y/N]: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def say(line: str) -> None:
    """Tell what goes on, on standard error."""
    Console(stderr=True, emoji=False, markup=False).print(line, style="dim", highlight=False, soft_wrap=True)


class Watch:
    """How far a sweep is, on standard error: one live picture on a terminal, else a line for every run that ends."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, emoji=False, markup=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._told: set[str] | None = None
        self._drawn = 0.0

    def __enter__(self) -> "Watch":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, progress: Any) -> None:
        """Show the progress: a `sweep.Progress`."""
        total = sum(map(len, (progress.done, progress.failed, progress.running, progress.pending)))
        counts = (
            f"{len(progress.done)} of {total} done, {len(progress.running)} running, "
            f"{len(progress.failed)} failed{_left(progress)}"
        )
        new = [*progress.done, *progress.failed]
        before, self._told = self._told, {*new}
        if not self._console.is_terminal:
            if before is None and new:  # from an earlier start
                say(counts)
            for name in [name for name in new if before is not None and name not in before]:
                say(f"{'failed' if name in progress.failed else 'done'}: {name} ({counts})")
            return
        if time.monotonic() - self._drawn < 0.5 and before == self._told:
            return
        self._drawn = time.monotonic()
        now = [
            Text(f"  {name}  {_duration(time.monotonic() - since)}", style="dim")
            for name, since in progress.running.items()
        ]
        failed = [Text(f"  failed: {name}: {error}", style="red") for name, error in [*progress.failed.items()][-3:]]
        bar = ProgressBar(total=max(1, total), completed=len(progress.done) + len(progress.failed), width=60)
        self._live.update(Group(Text(counts), bar, *now, *failed), refresh=True)


def _left(progress: Any) -> str:
    """How long what is left will take, as far as it is known."""
    return "" if progress.seconds_left is None else f", {_duration(progress.seconds_left)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _console() -> Console:
    # Piped, a table is as wide as it needs to be: a cut-off line is of no use to a script or a log.
    # Paths, labels and signatures are shown as they are: ":train:" is no picture of a train, "[a]" no style.
    return Console(width=None if sys.stdout.isatty() else 200, emoji=False, markup=False)
