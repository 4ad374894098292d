"""The figures of quality, speed, size, lambda and costs: a group of records in, plain values out.

Li et al. 2021 (L) and Behnke and Heafield 2020 (B) have them as is said of each.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from headcount.report.recorded import Group, RecordedRun, Series, number
from headcount.report.values import Figure, Line, Point, point

KEPT = "heads kept"
SPREAD = "Lines join means over seeds; shaded, from the least to the greatest; small dots are single runs."


def quality(group: Group) -> Figure:
    """Quality against heads kept, a line a method (L, Figure 3a and b)."""
    total = f", of {group.total}" if group.total else ""
    figure = Figure("quality", "Quality by heads kept", SPREAD, KEPT + total, group.metric_label)
    lines = _by_budget(group, group.quality)
    if not lines:
        return replace(figure, lacking=f"No run that removed heads has {_a(group.metric)}.")
    return replace(figure, lines=lines, level=_level(group))


def quality_few(group: Group) -> Figure:
    """The same where few heads stay: up to a sixth of them, where methods part (L, Figure 3c and d, section 5.2)."""
    figure = quality(group)
    budgets = sorted({each.x for line in figure.lines for each in line.points})
    few = (group.total or max(budgets, default=0)) / 6
    title, said = "Where few heads stay", f"Budgets up to a sixth of {group.total or 'the most kept'}. {SPREAD}"
    figure = replace(figure, key="quality-few", title=title, caption=said)
    if sum(budget <= few for budget in budgets) < 2:
        return replace(figure, lines=(), level=None, lacking=f"Fewer than two budgets are of {few:.0f} heads or fewer.")
    near = [replace(line, points=tuple(each for each in line.points if each.x <= few)) for line in figure.lines]
    return replace(figure, lines=tuple(line for line in near if line.points), level=None)


def speed(group: Group) -> Figure:
    """Measured speed-up against heads kept, beside what operations predict (L, Figure 4; B, Tables 7 to 9)."""
    measured = _speed_lines(group)
    predicted = _by_budget(group, lambda run: run.predicted_speedup)
    predicted = tuple(replace(line, name=f"{line.name}: predicted", style="dashed") for line in predicted)
    said = "Solid: measured, with quartiles of rounds or the range of seeds. Dashed: the ratio of operations (FLOPs)."
    if not measured and predicted:
        said = "No record holds a measured speed; only the ratio of operations (FLOPs) is shown."
    figure = Figure("speed", "Speed-up by heads kept", said, KEPT, "speed-up (×)", measured + predicted)
    if not figure.lines:
        return replace(figure, lacking="No record holds a measured speed or operations.")
    return replace(figure, choices=_choices(measured))


def size(group: Group) -> Figure:
    """Share of the model's bytes that went, against heads kept (L, Figure 4; B, Tables 7 to 9)."""
    said = "What share of the unpruned model's bytes is gone. " + SPREAD
    lines = _by_budget(group, lambda run: run.shrinkage)
    lacking = "" if lines else "No record of a pruned model holds its size."
    return Figure("size", "Size by heads kept", said, KEPT, "smaller by (%)", lines, lacking=lacking)


def speed_quality(group: Group) -> Figure:
    """Quality against measured speed-up, with the Pareto front (L, Figure 5a; B, section 9)."""
    title, said = "Speed against quality", "Up and right is better; bars are quartiles or seeds' range. "
    speeds = [(line, _quality_at(group, line)) for line in _speed_lines(group)]
    return _front(group, Figure("speed-quality", title, said, "speed-up (×)", group.metric_label), speeds, 1.0, "speed")


def size_quality(group: Group) -> Figure:
    """Quality against the share of bytes that went, with the Pareto front (L, Figure 5b; B, section 9)."""
    title, said = "Size against quality", "Up and right is better; bars are seeds' range. "
    sizes = [(line, _quality_at(group, line)) for line in _by_budget(group, lambda run: run.shrinkage)]
    return _front(group, Figure("size-quality", title, said, "smaller by (%)", group.metric_label), sizes, 0.0, "size")


def lambdas(group: Group) -> Figure:
    """Heads that the penalty left open, against its weight (L, Figure 2); the search's path is in it."""
    found: dict[float, list[tuple[RecordedRun, float]]] = {}
    for run in (run for series in group.series for run in series.runs):
        note = run.record.notes.get("voita")
        note = note if isinstance(note, dict) else {}
        path = note.get("path")
        for step in path if isinstance(path, list) else [note]:
            weight, count = (number(step.get(name)) for name in ("lambda", "open"))
            if weight is not None and weight > 0 and count is not None:
                found.setdefault(weight, []).append((run, count))
    said = "Every training that Voita's method did, a search's too: heads open before the count is adjusted to K."
    figure = Figure("lambda", "Lambda and the heads it leaves", said, "lambda", "heads left open", log="x")
    if not found:
        return replace(figure, lacking="No record is of Voita's method, whose penalty has the weight lambda.")
    colour = min((series.colour for series in group.series if series.runs[0].method == "voita"), default=0)
    points = tuple(point(weight, found[weight]) for weight in sorted(found))
    return replace(figure, lines=(Line("voita", points, colour),))


def costs(group: Group) -> Figure:
    """Seconds of a run, selection and training, against heads kept (B, Table 6)."""

    def seconds(run: RecordedRun) -> float | None:
        parts = [run.cost(purpose, "seconds") for purpose in ("training", "selection")]
        told = [part for part in parts if part is not None]
        return sum(told) if sum(told) > 0 else None

    lines = _by_budget(group, seconds)
    said = "Selection and training together, on the machines that the records name. " + SPREAD
    lacking = "" if lines else "No record holds how long it took."
    return Figure("costs", "Seconds by heads kept", said, KEPT, "seconds", lines, log="y", lacking=lacking)


FIGURES: dict[str, Callable[[Group], Figure]] = {
    "quality": quality,
    "quality-few": quality_few,
    "speed": speed,
    "size": size,
    "speed-quality": speed_quality,
    "size-quality": size_quality,
    "lambda": lambdas,
    "costs": costs,
}


def _by_budget(group: Group, value: Callable[[RecordedRun], float | None]) -> tuple[Line, ...]:
    """A line a series: of every budget, the mean over its runs that have the value."""
    return tuple(line for series in group.series if (line := _line(series.name, series, series.runs, value)).points)


def _line(name: str, series: Series, runs: Sequence[RecordedRun], value: Callable[[RecordedRun], float | None]) -> Line:
    points = []
    for kept, seeds in replace(series, runs=tuple(runs)).budgets().items():
        told = [(run, found) for run in seeds if (found := value(run)) is not None]
        points += [point(float(kept), told)] if told else []
    return Line(name, tuple(points), series.colour)


def _speed_lines(group: Group) -> tuple[Line, ...]:
    """Measured speed-ups, a line a series; if they were measured under several conditions, these are to choose from."""
    conditions = sorted({run.conditions for series in group.series for run in series.runs} - {""})
    lines = []
    for choice in conditions:
        for series in group.series:
            runs = [run for run in series.runs if run.conditions == choice]
            line = _line(series.name, series, runs, lambda run: number(run.record.speed.get("speedup")))
            by_index = {run.index: run for run in runs}
            points = tuple(_with_quartiles(each, by_index) for each in line.points)
            lines.append(replace(line, points=points, choice=choice if len(conditions) > 1 else ""))
    return tuple(line for line in lines if line.points)


def _choices(lines: Iterable[Line]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line.choice for line in lines if line.choice))


def _with_quartiles(at: Point, runs: dict[int, RecordedRun]) -> Point:
    if len(at.runs) > 1:
        return at
    speed = runs[at.runs[0]].record.speed
    low, high = (number(speed.get(name)) for name in ("speedup_low", "speedup_high"))
    return replace(at, low=at.y if low is None else low, high=at.y if high is None else high)


def _quality_at(group: Group, line: Line) -> list[Point]:
    """The line's points with what they showed as x, and as y the same runs' quality."""
    by_index = {run.index: run for run in group.runs}
    points = []
    for each in line.points:
        told = [(run, found) for index in each.runs if (found := group.quality(run := by_index[index])) is not None]
        points += [replace(point(each.y, told), each=())] if told else []
    return sorted(points, key=lambda each: each.x)


def _front(group: Group, figure: Figure, lines: Iterable[tuple[Line, list[Point]]], start: float, what: str) -> Figure:
    """The figure with these points and, through those that no other surpasses, the Pareto front.

    Args:
        group: What is compared.
        figure: As yet without lines.
        lines: Names and colours; points of x, the more the better, and quality.
        start: Where the unpruned model stands on x.
        what: What the records may lack.
    """
    shown = [replace(line, points=tuple(points), style="points") for line, points in lines if points]
    if not shown:
        return replace(figure, lacking=f"No record holds both {_a(group.metric)} and a {what}.")
    if (unpruned := group.unpruned()) is not None:
        value, runs = unpruned
        shown.append(Line("unpruned", (point(start, [(run, value) for run in runs]),), -1, "points"))
    said = f"{figure.caption}On the Pareto front stands what nothing else surpasses in both."
    choices = _choices(shown)
    fronts = [_pareto([line for line in shown if line.choice in ("", choice)], choice) for choice in choices or ("",)]
    return replace(figure, caption=said, lines=(*fronts, *shown), choices=choices)


def _pareto(lines: Iterable[Line], choice: str) -> Line:
    """Through the points that no other surpasses in x and y."""
    best: list[Point] = []
    for each in sorted((each for line in lines for each in line.points), key=lambda each: (-each.x, -each.y)):
        if not best or each.y > best[-1].y:
            best.append(each)
    points = tuple(replace(each, low=each.y, high=each.y) for each in reversed(best))
    return Line("Pareto front", points, -1, "front", choice)


def _level(group: Group) -> Line | None:
    unpruned = group.unpruned()
    if unpruned is None:
        return None
    value, runs = unpruned
    return Line("unpruned", (Point(0.0, value, value, value, tuple(run.index for run in runs)),), -1)


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
