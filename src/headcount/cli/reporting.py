"""The command that shows what runs gave."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from headcount.cli.arguments import Json
from headcount.cli.terminal import print_json, print_lines, say
from headcount.report import write_report
from headcount.settings.records import read_records


def report(
    sources: Annotated[
        list[Path], Parameter(help="Directories of runs and sweeps, searched to the bottom; or files of records.")
    ],
    /,
    *,
    output: Annotated[Path, Parameter(["--output", "-o"], help="The page to write.")] = Path("report.html"),
    figures: Annotated[
        Path | None, Parameter(help="Directory for each figure as PNG, SVG and CSV, and each table as CSV.")
    ] = None,
    title: Annotated[str | None, Parameter(help="The page's heading.")] = None,
    json_: Json = False,
) -> None:
    """Write one page of what runs gave: quality, speed, size, surviving heads, training, costs; needs no network."""
    records, problems = read_records(*sources)
    for problem in problems:
        say(problem)
    write_report(records, output, title=title, problems=problems, figures=figures)
    if json_:
        return print_json({"page": str(output), "records": len(records), "unreadable": problems})
    failed = sum(record.error is not None for record in records)
    more = "".join(f", {count} {what}" for count, what in ((failed, "failed"), (len(problems), "unreadable")) if count)
    print_lines(f"Wrote {output}: {len(records)} records{more}.", *([f"Figures: {figures}"] if figures else []))
