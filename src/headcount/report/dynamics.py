"""What was seen during training, a line a run over its steps.

Li et al. 2021 (L), Figures 7 and 8; Behnke and Heafield 2020 (B), Figure 3.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from headcount.report.recorded import Group, RecordedRun, number
from headcount.report.values import Figure, Line, Point

Look = Mapping[str, Any]

STEPS = "optimiser steps"
HARD = "On the development set, with the subset that would be kept if training ended there; never with gates half open."


def development(group: Group) -> Figure:
    """The development figure of the current hard subset (L, Figures 7 and 8, left axis)."""
    figure = Figure("dynamics-development", "Quality on the way", HARD, STEPS, group.metric_label)
    return _over_steps(group, figure, _development(group))


def finally_kept(group: Group) -> Figure:
    """What share of the current subset is in the final one (L, Figures 7 and 8, right axis)."""
    said = "Where it stays at 100 the subset is found; what follows is fine-tuning."
    figure = Figure("dynamics-kept", "Heads of the moment that stay for good", said, STEPS, "finally kept (%)")
    return _over_steps(group, figure, lambda look: _scaled(look.get("finally_kept"), 100))


def temperature(group: Group) -> Figure:
    """The relaxation's temperature (L, Figures 7 and 8, upper axis)."""
    figure = Figure("dynamics-temperature", "Temperature", "As it is annealed.", STEPS, "temperature", log="y")

    def positive(look: Look) -> float | None:
        value = number(look.get("temperature"))
        return value if value is not None and value > 0 else None

    return _over_steps(group, figure, positive)


def entropy(group: Group) -> Figure:
    """How undecided the gates are."""
    figure = Figure("dynamics-entropy", "Entropy", "How undecided gates still are; 0 is decided.", STEPS, "entropy")
    return _over_steps(group, figure, lambda look: number(look.get("entropy")))


def loss(group: Group) -> Figure:
    """The training loss."""
    figure = Figure("dynamics-loss", "Training loss", "Of the last steps before each look.", STEPS, "loss")
    return _over_steps(group, figure, lambda look: number(look.get("loss")))


def convergence(group: Group) -> Figure:
    """The development figure over the last training, a line a budget, of one method at a time (B, Figure 3)."""
    said = f"{HARD} One method at a time, every budget a line: the stronger, the more heads."
    figure = Figure("convergence", "Convergence, budget by budget", said, STEPS, group.metric_label)
    value = _development(group)
    lines = [
        replace(line, name=f"{run.kept} heads", style="shade", choice=series.name)
        for series in group.series
        for run in series.runs
        if (line := _line(series.name, run, series.colour, value)).points
    ]
    if not lines:
        return replace(figure, lacking=_lacks(figure))
    # The lottery's, as in its paper, or else what was seen at most budgets.
    count = Counter({name: len({line.name for line in lines if line.choice == name}) for name in _choices(lines)})
    order = sorted(count, key=lambda name: (not name.startswith("lottery"), -count[name]))
    return replace(figure, lines=(*lines, *_unpruned(group, value)), choices=tuple(order))


DYNAMICS: dict[str, Callable[[Group], Figure]] = {
    "dynamics-development": development,
    "dynamics-kept": finally_kept,
    "dynamics-temperature": temperature,
    "dynamics-entropy": entropy,
    "dynamics-loss": loss,
    "convergence": convergence,
}


def _over_steps(group: Group, figure: Figure, value: Callable[[Look], float | None]) -> Figure:
    lines = [
        replace(line, choice=f"{run.kept} heads")
        for series in group.series
        for run in series.runs
        if (line := _line(series.name, run, series.colour, value)).points
    ]
    if not lines:
        return replace(figure, lacking=_lacks(figure))
    # The same choices in the same order for all of these figures: they are chosen together.
    seen = [(run.kept, series.name) for series in group.series for run in series.runs if looks_of(run)]
    methods = Counter(kept for kept, _ in set(seen))
    order = sorted(methods, key=lambda kept: (-methods[kept], kept))
    choices = tuple(f"{kept} heads" for kept in order)
    return replace(figure, lines=(*lines, *_unpruned(group, value)), choices=choices)


def _unpruned(group: Group, value: Callable[[Look], float | None]) -> list[Line]:
    lines = [_line("unpruned", run, -1, value) for run in group.baseline]
    return [line for line in lines if line.points]


def _line(name: str, run: RecordedRun, colour: int, value: Callable[[Look], float | None]) -> Line:
    told = [(number(look.get("step")), value(look)) for look in looks_of(run)]
    at = [Point(x, y, y, y, (run.index,)) for x, y in told if x is not None and y is not None]
    return Line(name, tuple(at), colour)


def looks_of(run: RecordedRun) -> list[Look]:
    """The looks of the training that led to the subset: of several stages the last that ended with it, or the last."""
    looks = [look for look in run.record.dynamics if isinstance(look, dict) and number(look.get("step")) is not None]
    stages: dict[Any, list[Look]] = {}
    for look in looks:
        stages.setdefault(str(look.get("stage")), []).append(look)
    ended = [stage for stage in stages.values() if stage[-1].get("finally_kept") == 1]
    return [*stages.values(), *ended][-1] if stages else []


def _development(group: Group) -> Callable[[Look], float | None]:
    return partial(_figure_of, group.metric, group.scale)


def _figure_of(metric: str, scale: int, look: Look) -> float | None:
    figures = look.get("development")
    return _scaled(figures.get(metric), scale) if isinstance(figures, dict) else None


def _scaled(value: Any, scale: int) -> float | None:
    told = number(value)
    return None if told is None else told * scale


def _choices(lines: list[Line]) -> list[str]:
    return list(dict.fromkeys(line.choice for line in lines))


def _lacks(figure: Figure) -> str:
    return f"No record has looks during training that tell this ({figure.y})."
