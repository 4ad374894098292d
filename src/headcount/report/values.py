"""What is shown, as plain values: figures of lines of points, tables of cells. How they look is decided elsewhere."""

from collections.abc import Iterable
from dataclasses import dataclass

from headcount.report.recorded import RecordedRun, mean

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A")
"""Okabe and Ito's colours, which the colour-blind can tell apart; grey for black, yellow left out: neither is seen on
both dark and light."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""As many as have no common divisor with the colours: 56 pairs before one comes again. Names of matplotlib's."""


@dataclass(frozen=True)
class Point:
    """A value and the runs it comes from.

    Attributes:
        x: Where, on the horizontal axis.
        y: The mean over the runs.
        low: The least of them, or a single measurement's lower quartile.
        high: The greatest, or the upper quartile.
        runs: Indices of the runs.
        each: The runs' own values, if there are several.
    """

    x: float
    y: float
    low: float
    high: float
    runs: tuple[int, ...]
    each: tuple[float, ...] = ()


@dataclass(frozen=True)
class Line:
    """Points that belong together.

    Attributes:
        name: What they are.
        points: Ascending by x.
        colour: Which of the colours and markers; -1 for the text's own.
        style: `line`, `dashed`, `points`, or `front` for a line without markers.
        choice: With which of the figure's choices it is shown; empty: with every one.
    """

    name: str
    points: tuple[Point, ...]
    colour: int
    style: str = "line"
    choice: str = ""


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        key: Its name among `FIGURES`.
        title: What it shows.
        caption: How to read it.
        x: The horizontal axis's label.
        y: The vertical axis's.
        lines: What is drawn.
        log: Which axes are logarithmic: a word of `x` and `y`.
        level: A line across, with its name: the unpruned model's value.
        choices: What to choose from, so that not all lines are shown at once; the first is shown first.
        lacking: Why nothing is drawn.
    """

    key: str
    title: str
    caption: str
    x: str
    y: str
    lines: tuple[Line, ...] = ()
    log: str = ""
    level: Line | None = None
    choices: tuple[str, ...] = ()
    lacking: str = ""


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, the runs it comes from, whether it is its row's best, how many columns it takes."""

    text: str
    runs: tuple[int, ...] = ()
    best: bool = False
    span: int = 1


@dataclass(frozen=True)
class Table:
    """One table: rows of cells under the names of their columns, or why there are none."""

    key: str
    title: str
    caption: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    lacking: str = ""


def point(x: float, found: Iterable[tuple[RecordedRun, float]]) -> Point:
    """The point of several runs' values: their mean, and their spread."""
    pairs = list(found)
    values = tuple(value for _, value in pairs)
    runs = tuple(run.index for run, _ in pairs)
    return Point(x, mean(values), min(values), max(values), runs, values if len(values) > 1 else ())
