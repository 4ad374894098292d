"""The tables of a group of records, and what to know of it first."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import stdev

from headcount.report.recorded import Group, RecordedRun, Series, mean, number
from headcount.report.values import Cell, Table

NOTHING = Cell("–")


def budgets(group: Group) -> Table:
    """Quality by budget and method, the best of a budget marked (Li et al. 2021, Table 3)."""
    title = f"{group.metric_label} by budget and method"
    said = "Mean ± standard deviation over seeds, where there are several. Bold: the best of the budget."
    table = Table("budgets", title, said)
    shown = [series for series in group.series if any(group.quality(run) is not None for run in series.runs)]
    if not shown:
        return replace(table, lacking=f"No run that removed heads has a value of {group.metric}.")
    kept = sorted({run.kept for series in shown for run in series.runs}, reverse=True)
    rows = [_budget_row(group, shown, each) for each in kept]
    if (unpruned := group.unpruned()) is not None:
        value, runs = unpruned
        indices = tuple(run.index for run in runs)
        name = f"unpruned ({group.total})" if group.total else "unpruned"
        rows.insert(0, (Cell(name), Cell(f"{value:.2f}", indices, span=len(shown))))
    columns = ("heads", *(series.name for series in shown))
    return replace(table, columns=columns, rows=tuple(rows))


def efficiency(group: Group) -> Table:
    """Heads, size, quality and speed side by side (Behnke and Heafield 2020, Tables 3 to 5 and 7 to 9)."""
    title = "Heads, size, quality and speed"
    conditions = sorted({run.conditions for run in group.runs} - {""})
    measured = f"Speed: {'; '.join(conditions)}." if conditions else "No record holds a measured speed."
    if len(conditions) > 1:
        measured += " Where a row's runs were measured under several, see the figures."
    said = f"Means over seeds; of the heads per layer, the first seed's. Δ is to the unpruned model. {measured}"
    columns = (
        "method", "heads", "per layer", group.metric_label, "Δ", "parameters", "MB", "ms", "speed-up", "FLOPs predict",
    )  # fmt: skip
    rows = [_efficiency_row(group, "unpruned", group.baseline)] if group.baseline else []
    rows += [_efficiency_row(group, series.name, runs) for series, _, runs in _parts(group)]
    lacking = "" if rows else "No run came to an end."
    return Table("efficiency", title, said, columns, tuple(rows), lacking)


def costs(group: Group) -> Table:
    """Steps, seconds and memory of training and selection (Behnke and Heafield 2020, Table 6)."""
    title = "What it cost"
    said = "Means over seeds. Selection is what only served to find heads; training is everything else."
    columns = (
        "method", "heads", "training steps", "seconds", "peak MB", "selection steps", "seconds ", "peak MB ",
        "total seconds",
    )  # fmt: skip
    parts = [("unpruned", group.baseline)] if group.baseline else []
    parts += [(series.name, runs) for series, _, runs in _parts(group)]
    rows = [_cost_row(name, runs) for name, runs in parts if any(run.record.costs for run in runs)]
    return Table("costs", title, said, columns, tuple(rows), "" if rows else "No record holds what it cost.")


TABLES: dict[str, Callable[[Group], Table]] = {"budgets": budgets, "efficiency": efficiency, "costs": costs}


def glance(group: Group) -> list[tuple[str, Cell, str]]:
    """What to know first: a name, a value, and what there is to say of it."""
    done = [run for series in group.series for run in series.runs]
    seeds, failed = _many(len({run.seed for run in done}), "seed"), len(group.failed)
    found = [
        ("runs", Cell(str(len(group.runs) + failed)), f"{seeds}, {failed} failed" if failed else seeds),
        ("methods", Cell(str(len({run.method for run in done}))), _many(len({run.kept for run in done}), "budget")),
    ]
    if (unpruned := group.unpruned()) is None:
        return found
    value, runs = unpruned
    heads = f"with all {group.total} heads" if group.total else "with all heads"
    found.append((f"unpruned, {group.metric_label}", Cell(f"{value:.2f}", tuple(run.index for run in runs)), heads))
    means = [(kept, series.name, _mean(map(group.quality, seeds)), seeds) for series, kept, seeds in _parts(group)]
    near = [(kept, -told, name, seeds) for kept, name, told, seeds in means if told is not None and told >= value - 1]
    if near:
        kept, told, name, runs = min(near, key=lambda each: each[:2])
        cell = Cell(f"{kept} of {group.total}" if group.total else str(kept), tuple(run.index for run in runs))
        found.append(("fewest heads within 1 point", cell, f"{name}, {-told - value:+.2f}"))
    return found


def _budget_row(group: Group, shown: list[Series], kept: int) -> tuple[Cell, ...]:
    told = []
    for series in shown:
        runs = series.budgets().get(kept, ())
        told.append([(value, run.index) for run in runs if (value := group.quality(run)) is not None])
    means = [f"{mean(value for value, _ in each):.2f}" if each else "" for each in told]
    best = max((float(each) for each in means if each), default=None)  # as printed: what looks equal is equal
    cells = [Cell(str(kept))]
    for each, text in zip(told, means, strict=True):
        spread = f" ± {stdev(value for value, _ in each):.2f}" if len(each) > 1 else ""
        runs_of = tuple(index for _, index in each)
        cells.append(Cell(text + spread, runs_of, float(text) == best) if text else NOTHING)
    return tuple(cells)


def _efficiency_row(group: Group, name: str, runs: tuple[RecordedRun, ...]) -> tuple[Cell, ...]:
    first, unpruned = runs[0].record, group.unpruned()
    quality = _mean(map(group.quality, runs))
    change = None if quality is None or unpruned is None or runs == group.baseline else quality - unpruned[0]
    after = [size if isinstance(size := run.record.size.get("after"), dict) else {} for run in runs]
    parameters, bytes_ = (_mean(number(size.get(what)) for size in after) for what in ("parameters", "bytes"))
    # Of speeds under different conditions a mean would be of neither; the figures have them apart.
    alike = len({run.conditions for run in runs} - {""}) < 2
    speed = {
        what: _mean(number(run.record.speed.get(what)) for run in runs) if alike else None
        for what in ("milliseconds", "speedup")
    }
    kept = f"{runs[0].kept} of {group.total}" if group.total else str(runs[0].kept)
    texts = (
        name,
        kept,
        first.heads,
        _text(quality, ".2f"),
        _text(change, "+.2f"),
        _text(parameters, ",.0f"),
        _text(None if bytes_ is None else bytes_ / 1e6, ".1f"),
        _text(speed["milliseconds"], ".1f"),
        _text(speed["speedup"], ".3f"),
        _text(_mean(run.predicted_speedup for run in runs), ".3f"),
    )
    indices = tuple(run.index for run in runs)
    return tuple(Cell(text, indices if column == 0 else ()) for column, text in enumerate(texts))


def _cost_row(name: str, runs: tuple[RecordedRun, ...]) -> tuple[Cell, ...]:
    indices = tuple(run.index for run in runs)
    cells = [Cell(name, indices), Cell(str(runs[0].kept))]
    for purpose in ("training", "selection"):
        steps, seconds, memory = (
            _mean(run.cost(purpose, what) for run in runs) for what in ("steps", "seconds", "peak_memory")
        )
        megabytes = None if memory is None else memory / 1e6
        cells += [Cell(_text(value, form)) for value, form in ((steps, ",.0f"), (seconds, ",.1f"), (megabytes, ",.0f"))]
    totals = [[run.cost(purpose, "seconds") for purpose in ("training", "selection")] for run in runs]
    told = [sum(part for part in parts if part is not None) for parts in totals if any(parts)]
    return (*cells, Cell(_text(_mean(told), ",.1f")))


def _parts(group: Group) -> Iterable[tuple[Series, int, tuple[RecordedRun, ...]]]:
    """Every series' budgets, the greatest first: a row each."""
    for series in group.series:
        for kept, runs in reversed(series.budgets().items()):
            yield series, kept, runs


def _mean(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return mean(told) if told else None


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
