"""The command line: parse, call, print. `--json` prints plain data; errors of ours are one line and exit code 1."""

import errno
import sys
from contextlib import suppress
from typing import NoReturn

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter

from headcount import __version__
from headcount.cli.arguments import OPTIONS
from headcount.cli.experiments import records, run, sweep
from headcount.cli.files import apply, convert, demo, export, plan
from headcount.cli.measuring import bench
from headcount.cli.pruning import evaluate, heads, methods, prune
from headcount.cli.reporting import report
from headcount.cli.reproducing import reproduce
from headcount.cli.translation import distill, shortlist, train_nmt, translate
from headcount.errors import DiskFull, PruningError


def _usual(default: object) -> str | None:
    """How help shows a default: what is off or not given says nothing."""
    return None if default is None or default is False else "on" if default is True else str(default)


app = App(
    name="headcount",
    help="Remove attention heads from Transformers: name a budget, pick a method, get a smaller, faster model.",
    help_format="plaintext",
    help_flags=["--help"],
    version=f"headcount {__version__}",
    version_flags=["--version"],
    default_parameter=Parameter(negative=(), show_default=_usual),
    result_action="return_value",
    group_parameters=OPTIONS,
)

for _command in (
    heads, methods, prune, evaluate, bench, plan, apply, convert, export, train_nmt, translate, distill, shortlist, run,
    sweep, records, report, reproduce, demo,
):  # fmt: skip
    app.command(_command, sort_key=len([*app]))


def main() -> None:
    """Run the command line. Exit codes: 0; 1 for errors, in one line; 2 for wrong usage; 28 for a full disk."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that has no … is no reason to lose a training
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if not sys.argv[1:]:
        app.help_print([])
        sys.exit(2)
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except CycloptsError as error:
        asked = " ".join(["headcount", *(error.command_chain or ())])
        _end(f"{_usage(error)} See: {asked} --help", 2)
    except PruningError as error:
        _end(" ".join(str(error).split()), error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        _end(f"{where}{error.strerror or error}", DiskFull.exit_code if full else 1)


def _usage(error: CycloptsError) -> str:
    """Say in one line what is wrong with the usage: what is missing and what it is, or the parser's own words."""
    missing = error.argument if isinstance(error, MissingArgumentError) else None
    if missing is None or missing.tokens:
        return " ".join(str(error).split())
    unknown = [each for each in error.unused_tokens or () if each.startswith("--")]
    found = f"Unknown option: {', '.join(unknown)}. " if unknown else ""
    return f"{found}Missing {missing.name}: {missing.parameter.help}"


def _end(message: str, code: int) -> NoReturn:
    with suppress(OSError):  # standard error may be a file on the disk that is full
        print(f"headcount: {message}", file=sys.stderr)
    sys.exit(code)
