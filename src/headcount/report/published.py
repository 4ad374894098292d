"""Records beside what was published: the same as a table of the paper, or as a figure's points."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from headcount.report.dynamics import looks_of
from headcount.report.groups import group
from headcount.report.recorded import Group, RecordedRun, mean, number
from headcount.settings.records import Record

Row = dict[str, str]


def quality(records: Sequence[Record]) -> list[Row]:
    """A row a method, a column a budget: the mean over the seeds, and the least and greatest of them."""
    rows, groups = [], group(records)
    budgets = sorted({run.kept for each in groups for run in each.runs}, reverse=True)
    for each in groups:
        lines = [("unpruned", each.baseline), *((series.name, series.runs) for series in each.series)]
        for name, runs in lines:
            cells = {f"{kept}": _spread(each, [run for run in runs if run.kept == kept]) for kept in budgets}
            if any(cells.values()):
                rows.append({"data": each.name, "method": name, "figure": each.metric, **cells})
    return _same_columns(rows)


def heads(records: Sequence[Record]) -> list[Row]:
    """A row a run: the heads that stayed in each layer, and the quality."""
    return [
        {
            **_about(each, name, run),
            "sparsity": _sparsity(run),
            "heads per layer": run.record.heads,
            "parameters": f"{run.record.size.get('after', {}).get('parameters', 0):,}",
            each.metric: _number(each.quality(run)),
        }
        for each, name, run in _runs(records)
    ]


def lambdas(records: Sequence[Record]) -> list[Row]:
    """A row a lambda: the heads that it left open, before their number was adjusted."""
    rows = [
        (weight, each, run)
        for each, _, run in _runs(records)
        if isinstance(told := run.record.notes.get("voita"), dict)
        and (weight := number(told.get("lambda"))) is not None
    ]
    return [
        {
            "data": each.name,
            "lambda": f"{weight:g}",
            "heads left open": str(run.record.notes["voita"].get("open", "")),
            "adjusted to": str(run.kept),
            each.metric: _number(each.quality(run)),
        }
        for weight, each, run in sorted(rows, key=lambda row: (row[1].name, row[0]))
    ]


def speed(records: Sequence[Record]) -> list[Row]:
    """A row a run: how much smaller and faster it is, and how much faster its operations predict."""
    return [
        {
            **_about(each, name, run),
            each.metric: _number(each.quality(run)),
            "smaller by, %": _number(run.shrinkage),
            "speed-up (quartiles)": _speedup(run),
            "time saved, %": _number(_saved(run)),
            "FLOPs predict": _number(run.predicted_speedup, 2),
            "conditions": run.conditions,
        }
        for each, name, run in _runs(records)
    ]


def costs(records: Sequence[Record]) -> list[Row]:
    """A row a run: what the training that leads to the weights took, and what served the choice of heads alone."""
    return [
        {
            **_about(each, name, run),
            **{
                f"{what} of {purpose}": _number(run.cost(purpose, what), 0)
                for what in ("steps", "seconds")
                for purpose in ("training", "selection")
            },
        }
        for each, name, run in _runs(records)
    ]


def dynamics(records: Sequence[Record]) -> list[Row]:
    """A row a run whose heads were chosen during its training: when the choice was made, and what came after."""
    rows = []
    for each, name, run in _runs(records):
        looks = [look for look in looks_of(run) if number(look.get("finally_kept")) is not None]
        if looks:
            settled = len(looks)
            while settled and looks[settled - 1]["finally_kept"] == 1:
                settled -= 1
            found = str(looks[settled]["step"]) if settled < len(looks) else "never"
            half = looks[len(looks) // 2]["finally_kept"]
            rows.append(
                {
                    **_about(each, name, run),
                    "subset final from step": found,
                    "of": str(looks[-1]["step"]),
                    "finally kept, halfway": f"{100 * half:.0f}%",
                    each.metric: _number(each.quality(run)),
                }
            )
    return rows


def convergence(records: Sequence[Record]) -> list[Row]:
    """A row a run: the figure on development data at each look of its last training."""
    rows = []
    for each, name, run in _runs(records):
        looks = [look for look in looks_of(run) if isinstance(look.get("development"), dict)]
        cells = {f"step {look['step']}": _number(look["development"].get(each.metric)) for look in looks}
        rows.append({**_about(each, name, run), **cells})
    return _same_columns(rows)


def published(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The published rows as text; fractions have as many digits as the column's longest."""
    digits: dict[str, int] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, float):
                digits[name] = max(digits.get(name, 0), len(str(value).partition(".")[2]))
    return [
        {name: f"{value:.{digits[name]}f}" if isinstance(value, float) else str(value) for name, value in row.items()}
        for row in rows
    ]


def show(records: Sequence[Record], shows: str) -> list[Row]:
    """The table of that name in `TABLES`, without columns that say the same in every row or nothing at all."""
    rows = _same_columns(TABLES[shows](records))
    idle = {name for name in ("data", "seed", "conditions") if len({row.get(name) for row in rows}) < 2}
    empty = {name for row in rows for name in row if not any(other[name] for other in rows)}
    return [{name: value for name, value in row.items() if name not in idle | empty} for row in rows]


TABLES: dict[str, Callable[[Sequence[Record]], list[Row]]] = {
    "quality": quality,
    "heads": heads,
    "lambdas": lambdas,
    "speed": speed,
    "costs": costs,
    "dynamics": dynamics,
    "convergence": convergence,
}
"""What an experiment's `shows` may be."""


def _runs(records: Sequence[Record]) -> Iterator[tuple[Group, str, RecordedRun]]:
    """Every run that came to an end, with its group and the name of its series: unpruned ones, then by series."""
    for each in group(records):
        yield from ((each, "unpruned", run) for run in each.baseline)
        for series in each.series:
            yield from ((each, series.name, run) for run in sorted(series.runs, key=lambda run: (-run.kept, run.seed)))


def _about(each: Group, name: str, run: RecordedRun) -> Row:
    return {"data": each.name, "method": name, "heads": str(run.kept), "seed": run.seed}


def _spread(each: Group, runs: Sequence[RecordedRun]) -> str:
    found = [value for run in runs if (value := each.quality(run)) is not None]
    if not found:
        return ""
    spread = f" ({min(found):.1f}–{max(found):.1f})" if len(found) > 1 else ""
    return f"{mean(found):.1f}{spread}"


def _same_columns(rows: list[Row]) -> list[Row]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name, "") for name in columns} for row in rows]


def _sparsity(run: RecordedRun) -> str:
    """Of the heads that could go: of one kind, where the budget was over one."""
    kind = run.record.recipe.get("sites")
    sites = [site for site in run.record.sites if kind is None or site.get("kind") == kind]
    total = sum(int(site["heads"]) for site in sites)
    kept = sum(len(run.record.subset.get(str(site["name"]), ())) for site in sites)
    return f"{100 * (1 - kept / total):.0f}%" if total else ""


def _speedup(run: RecordedRun) -> str:
    told: dict[str, Any] = run.record.speed
    values = [number(told.get(name)) for name in ("speedup", "speedup_low", "speedup_high")]
    if any(value is None for value in values):
        return ""
    middle, low, high = (f"{value:.2f}" for value in values)
    return f"{middle} ({low}–{high})"


def _saved(run: RecordedRun) -> float | None:
    faster = number(run.record.speed.get("speedup"))
    return None if not faster else 100 * (1 - 1 / faster)


def _number(value: Any, digits: int = 1) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else ""
