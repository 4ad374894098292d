"""The command line: parse, call, print. `--json` prints plain data; errors of ours are one line and exit code 1."""

import errno
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from headcount import __version__
from headcount.cli.experiments import records, run, sweep
from headcount.cli.files import apply, demo, export, plan
from headcount.cli.measuring import bench
from headcount.cli.pruning import evaluate, heads, methods, prune
from headcount.cli.reporting import report
from headcount.cli.reproducing import reproduce
from headcount.cli.translation import distill, shortlist, train_nmt, translate
from headcount.errors import DiskFull, PruningError

app = typer.Typer(
    help="Remove attention heads from Transformers: name a budget, pick a method, get a smaller, faster model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> bool:
    if asked:
        print(f"headcount {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


for _command in (
    heads, methods, prune, evaluate, bench, plan, apply, export, train_nmt, translate, distill, shortlist, run, sweep,
    records, report, reproduce, demo,
):  # fmt: skip
    app.command()(_command)


def main() -> None:
    """Run the command line. Exit codes: 0; 1 for errors, in one line; 2 for wrong usage; 28 for a full disk."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that has no … is no reason to lose a training
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app()
    except PruningError as error:
        _end(" ".join(str(error).split()), error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        _end(f"{where}{error.strerror or error}", DiskFull.exit_code if full else 1)


def _end(message: str, code: int) -> NoReturn:
    with suppress(OSError):  # standard error may be a file on the disk that is full
        print(f"headcount: {message}", file=sys.stderr)
    sys.exit(code)
