"""Figures as files: PNG and SVG drawn by matplotlib, CSV with all that is in them; tables as CSV."""

import io
import os
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headcount.errors import PruningError
from headcount.report.surviving import Surviving
from headcount.report.values import MARKERS, PALETTE, Figure, Line, Table
from headcount.settings.records import Record
from headcount.settings.writing import naming_a_full_disk, write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "grid.alpha": 0.25,
    "font.size": 9,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",  # text stays text: small, and found by a search
    "svg.hashsalt": "headcount",  # the same records give the same file
    "text.parse_math": False,  # names are not formulas, whatever is in them
}
LOOKS: dict[str, dict[str, Any]] = {
    "dashed": {"linestyle": "--", "linewidth": 1, "markerfacecolor": "none"},
    "points": {"linestyle": ""},
    "front": {"linestyle": "--", "linewidth": 1, "marker": ""},
}
INK = "#444444"


def write_figure(figure: Figure, records: Sequence[Record], path: Path) -> None:
    """Write a figure as `path` with the endings .png, .svg and .csv.

    Of one with choices the first is drawn; and each as `path.CHOICE`, with hyphens for spaces, where there are more.

    Raises:
        PruningError: matplotlib is not installed, or the disk is full.
    """
    write_csv(
        _named(path, "csv"), ("choice", "line", figure.x, figure.y, "low", "high", "signature"), _rows(figure, records)
    )
    first = figure.choices[0] if figure.choices else ""
    drawn = [(path, first)]
    if len(figure.choices) > 1:
        drawn += [(path.with_name(f"{path.name}.{choice_name(choice)}"), choice) for choice in figure.choices]
    with _style():
        for place, choice in drawn:
            canvas = _canvas((6.4, 4.0))
            _draw(canvas.subplots(), figure, choice)
            _save(canvas, place)


def choice_name(choice: str) -> str:
    """A choice as part of a file's name."""
    return re.sub(r"[^0-9A-Za-z.]+", "-", choice).strip("-")


def write_table(table: Table, records: Sequence[Record], path: Path) -> None:
    """Write a table as `path` with the ending .csv, the signatures of a row's runs at its end."""
    rows = []
    for row in table.rows:
        runs = dict.fromkeys(index for cell in row for index in cell.runs)
        rows.append([*(cell.text for cell in row), "\n".join(records[index].signature for index in runs)])
    write_csv(_named(path, "csv"), (*(column.strip() for column in table.columns), "signatures"), rows)


def write_surviving(found: Surviving, records: Sequence[Record], path: Path) -> None:
    """Write the heads that survive: layers by budgets, a row of maps for each series' first seed; all in the CSV."""
    header = ("series", "seed", "heads kept", "kind", "layer", "site", "kept", "of", "signature")
    rows = [
        (name, seed, run.kept, layer.kind, layer.layer, layer.name, " ".join(map(str, kept)), layer.heads,
         records[run.index].signature)
        for name, seed, run, subset in found.runs
        for layer, kept in zip(found.layers, subset, strict=True)
    ]  # fmt: skip
    write_csv(_named(path, "csv"), header, rows)
    with _style():
        _save(_drawn_map(found), path)


def _drawn_map(found: Surviving) -> "Canvas":
    maps: dict[str, dict[int, list[int]]] = {}
    seeds: dict[str, str] = {}
    for name, seed, run, subset in found.runs:
        if seeds.setdefault(name, seed) == seed:
            maps.setdefault(name, {})[run.kept] = [len(kept) for kept in subset]
    kinds = list(dict.fromkeys(layer.kind for layer in found.layers))
    most = max(
        max([layer.heads or 0 for layer in found.layers]), *(max(each) for of in maps.values() for each in of.values())
    )
    rows = max(sum(layer.kind == kind for layer in found.layers) for kind in kinds)
    panels = [(name, kind) for name in maps for kind in kinds]
    across = len(kinds) if len(kinds) > 1 else min(3, len(maps))
    width, down = max(2.2, 0.3 * max(map(len, maps.values())) + 0.9), -(-len(panels) // across)
    canvas = _canvas((across * width, down * (0.22 * rows + 1)))
    grid = canvas.subplots(down, across, squeeze=False)
    places: list[Axes] = list(grid.flat)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    for axes, (name, kind) in zip(places, panels, strict=False):
        budgets = maps[name]
        at = [number for number, layer in enumerate(found.layers) if layer.kind == kind]
        counts = [[budgets[kept][number] for kept in sorted(budgets)] for number in at]
        axes.imshow(counts, cmap="Blues", vmin=0, vmax=1.1 * max(1, most), aspect="auto")
        for y, layer in enumerate(counts):
            for x, count in enumerate(layer):
                color = "white" if count > 0.6 * most else INK
                axes.text(x, y, str(count or "·"), ha="center", va="center", fontsize=7, color=color)
        axes.set_title(textwrap.fill(_safe(f"{name} (seed {seeds[name]}): {kind}"), int(width / 0.07)), fontsize=8)
        axes.set_xticks(range(len(budgets)), list(map(str, sorted(budgets))), fontsize=7)
        axes.set_yticks(range(len(at)), [str(found.layers[number].layer) for number in at], fontsize=7)
        axes.grid(False)
    for axes in grid[-1]:
        axes.set_xlabel("heads kept")
    for axes in grid[:, 0]:
        axes.set_ylabel("layer")
    return canvas


def _draw(axes: "Axes", figure: Figure, choice: str) -> None:
    named: set[str] = set()
    lines = [line for line in figure.lines if line.choice in ("", choice)]
    shades = sorted({line.name for line in lines if line.style == "shade"}, key=lambda name: int(name.split()[0]))
    for line in lines:
        xs, ys = [each.x for each in line.points], [each.y for each in line.points]
        look = _look(line, shades)
        label = "_" if line.name in named else _safe(line.name)
        named.add(line.name)
        axes.plot(xs, ys, label=label, **look)
        low, high = [each.low for each in line.points], [each.high for each in line.points]
        if low == high:
            continue
        if line.style == "line":
            axes.fill_between(xs, low, high, color=look["color"], alpha=0.15, linewidth=0)
        else:
            axes.vlines(xs, low, high, color=look["color"], linewidth=1)
    if figure.level is not None:
        axes.axhline(figure.level.points[0].y, color=INK, linestyle=":", label=figure.level.name)
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if name in figure.log:
            _make_logarithmic(axes, name, axis)
    axes.set_xlabel(_safe(figure.x))
    axes.set_ylabel(_safe(figure.y))
    axes.set_title(_safe(f"{figure.title}: {choice}" if choice else figure.title))
    handles, labels = axes.get_legend_handles_labels()
    if handles and len(handles) <= 24:
        axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.02))


def _make_logarithmic(axes: "Axes", name: str, axis: Any) -> None:
    from matplotlib.ticker import LogLocator

    axes.set(**{f"{name}scale": "log"})
    low, high = axis.get_data_interval()
    if high < 300 * low:  # powers of ten alone would be too few
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")  # the default's are formulas, and nothing is read as one here
    axis.set_minor_formatter("")


def _look(line: Line, shades: Sequence[str]) -> dict[str, Any]:
    color, marker = INK, "o"
    if line.colour >= 0:
        color, marker = PALETTE[line.colour % len(PALETTE)], MARKERS[line.colour % len(MARKERS)]
    look: dict[str, Any] = {"color": color, "marker": marker, "markersize": 4.5, "linewidth": 1.6, "linestyle": "-"}
    if line.style == "shade":
        from matplotlib import colormaps

        share = shades.index(line.name) / max(1, len(shades) - 1)
        look |= {"color": colormaps["cividis_r"](0.1 + 0.9 * share), "marker": "", "linewidth": 1.3}
    return look | LOOKS.get(line.style, {})


def _rows(figure: Figure, records: Sequence[Record]) -> Iterable[tuple[Any, ...]]:
    for line in [*figure.lines, *([figure.level] if figure.level else [])]:
        for at in line.points:
            x = "" if line is figure.level else at.x
            signatures = "\n".join(records[index].signature for index in at.runs)
            yield line.choice, line.name, x, at.y, at.low, at.high, signatures


def _safe(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _named(path: Path, ending: str) -> Path:
    """`a.b` with an ending: the last part of a name may have dots of its own."""
    return path.with_name(f"{path.name}.{ending}")


def _canvas(inches: tuple[float, float]) -> "Canvas":
    from matplotlib.figure import Figure as Canvas

    return Canvas(figsize=inches, dpi=150, layout="constrained")


def _save(canvas: "Canvas", path: Path) -> None:
    written: Mapping[str, dict[str, Any]] = {"png": {}, "svg": {"metadata": {"Date": None}}}
    for kind, options in written.items():
        file, buffer = _named(path, kind), io.BytesIO()
        canvas.savefig(buffer, format=kind, **options)
        aside = file.with_name(f".{file.name}.aside")
        with naming_a_full_disk(file):
            aside.write_bytes(buffer.getvalue())
            os.replace(aside, file)


def _style() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise PruningError(
            "Figures are drawn by matplotlib, which is not installed: pip install 'headcount[report]'. The page alone "
            "needs no matplotlib: leave out --figures."
        ) from error
    return matplotlib.rc_context(STYLE)
