"""Records in, one page out: tables and figures of what runs gave. Knows nothing of models; torch is never imported."""

import re
from collections.abc import Sequence
from pathlib import Path

from headcount.report.dynamics import DYNAMICS
from headcount.report.figures import FIGURES
from headcount.report.groups import group
from headcount.report.page import Part, Section, page
from headcount.report.recorded import Group
from headcount.report.static import write_figure, write_surviving, write_table
from headcount.report.surviving import surviving
from headcount.report.tables import TABLES
from headcount.settings.records import Record
from headcount.settings.writing import naming_a_full_disk, write_atomically

__all__ = ["write_report"]

TITLE = "Attention heads: what is lost, what is gained"


def write_report(
    records: Sequence[Record],
    output: Path,
    *,
    title: str | None = None,
    problems: Sequence[str] = (),
    figures: Path | None = None,
) -> None:
    """Write one self-contained HTML page of these records, whole or not at all.

    Args:
        records: What runs gave; none is allowed, and the page says so.
        output: The page's file.
        title: Its heading.
        problems: What could not be read, a line each, as `read_records` gives it.
        figures: A directory for each figure as PNG, SVG and CSV, and each table as CSV; made if it is not there. With
            several groups of comparable records, one directory in it for each.

    Raises:
        PruningError: Figures are wanted and matplotlib is not installed (`headcount[report]`), or the disk is full.
    """
    parts = [Part(each, tuple(_sections(each))) for each in group(records)]
    text = page(records, parts, title or TITLE, problems)
    output.parent.mkdir(parents=True, exist_ok=True)
    with naming_a_full_disk(output):
        write_atomically(output, text)
    if figures is not None:
        for number, part in enumerate(parts, start=1):
            place = figures if len(parts) == 1 else figures / f"{number}-{_slug(part.group.name)}"
            place.mkdir(parents=True, exist_ok=True)
            _write_figures(part, records, place)


def _sections(of: Group) -> list[Section]:
    shown = {key: make(of) for key, make in (FIGURES | DYNAMICS).items()}
    tables = {key: make(of) for key, make in TABLES.items()}
    gain = tuple(shown[key] for key in ("speed", "size", "speed-quality", "size-quality"))
    dynamics = tuple(figure for key, figure in shown.items() if key.startswith("dynamics-"))
    return [
        Section("quality", "Quality", (shown["quality"], shown["quality-few"]), (tables["budgets"],)),
        Section("gain", "Speed and size", gain, (tables["efficiency"],)),
        Section("heads", "Surviving heads", heads=surviving(of)),
        Section("dynamics", "Training dynamics", dynamics),
        Section("convergence", "Convergence", (shown["convergence"],)),
        Section("lambda", "Lambda", (shown["lambda"],)),
        Section("costs", "Costs", (shown["costs"],), (tables["costs"],)),
    ]


def _write_figures(part: Part, records: Sequence[Record], place: Path) -> None:
    for section in part.sections:
        for figure in section.figures:
            if not figure.lacking:
                write_figure(figure, records, place / figure.key)
        for table in section.tables:
            if not table.lacking:
                write_table(table, records, place / f"table-{table.key}")
        if section.heads is not None and not section.heads.lacking:
            write_surviving(section.heads, records, place / "heads")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
