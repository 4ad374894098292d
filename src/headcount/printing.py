"""What a person sees: tables and lines on standard output, progress on standard error. Plain data for `--json`."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def print_table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> None:
    """Print rows that have the same columns."""
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


def say(line: str) -> None:
    """Tell what goes on, on standard error."""
    Console(stderr=True).print(line, style="dim", highlight=False, soft_wrap=True)


def _console() -> Console:
    # Piped, a table is as wide as it needs to be: a cut-off line is of no use to a script or a log.
    # Paths, labels and signatures are shown as they are: ":train:" is no picture of a train, "[a]" no style.
    return Console(width=None if sys.stdout.isatty() else 200, emoji=False, markup=False)
