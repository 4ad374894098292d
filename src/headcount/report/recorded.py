"""Recorded runs as the report sees them, the series they make, and the groups that may be compared."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from headcount.settings.records import Record


@dataclass(frozen=True)
class RecordedRun:
    """A record and its place in the report.

    Attributes:
        index: In the report's list of records.
        record: What came out.
        origin: The record its chain of models begins with: Michel's 18 heads may come from a model of 36, and those
            from the unpruned one, beside which sizes are to be seen.
    """

    index: int
    record: Record
    origin: Record

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.record.recipe.get("method"))

    @property
    def whole(self) -> bool:
        """Whether the run had no budget to meet: an unpruned model, which the report shows beside the others."""
        return self.record.recipe.get("keep") is None

    @property
    def kept(self) -> int:
        """How many heads stayed."""
        return self.record.kept

    @property
    def seed(self) -> str:
        """The seed, as it is shown."""
        return str(self.record.recipe.get("seed"))

    @property
    def shrinkage(self) -> float | None:
        """What share of the unpruned model's bytes went, in per cent."""
        before, after = number_at(self.origin.size, "before", "bytes"), number_at(self.record.size, "after", "bytes")
        return 100 * (1 - after / before) if before and after is not None else None

    @property
    def predicted_speedup(self) -> float | None:
        """The ideal: the unpruned model's operations divided by this one's."""
        if (told := number_at(self.record.speed, "predicted_speedup")) is not None:
            return told
        before, after = number_at(self.origin.flops, "before"), number_at(self.record.flops, "after")
        return before / after if before and after else None

    @property
    def conditions(self) -> str:
        """What the speed was measured under; empty if it was not."""
        speed = self.record.speed
        if number(speed.get("speedup")) is None:
            return ""
        shown = {"batch": "batch_size", "length": "length", "threads": "threads", "": "device", "products": "matmul"}
        told = [f"{name} {speed[key]}".strip() for name, key in shown.items() if speed.get(key) is not None]
        told += [str(speed["processor"])] if speed.get("processor") else []
        return ", ".join(told) or "conditions not recorded"

    def cost(self, purpose: str, what: str) -> float | None:
        """Steps, seconds or bytes of training, or of what served selection alone."""
        return number_at(self.record.costs, purpose, what)

    def site_heads(self) -> dict[str, int] | None:
        """How many heads each site had; None where no record tells."""
        if self.record.sites:
            return {str(site["name"]): int(site["heads"]) for site in self.record.sites}
        if self.whole and self.record.error is None:
            return {site: len(heads) for site, heads in self.record.subset.items()}
        return None


@dataclass(frozen=True)
class Series:
    """Runs that differ in the budget and the seed alone: of one method, with the same settings.

    Attributes:
        name: The method, and what tells this series from others of it.
        colour: Which colour and marker are its own, in all groups.
        runs: By the number of kept heads.
    """

    name: str
    colour: int
    runs: tuple[RecordedRun, ...]

    def budgets(self) -> dict[int, tuple[RecordedRun, ...]]:
        """The runs of each budget, ascending: its seeds."""
        found: dict[int, list[RecordedRun]] = defaultdict(list)
        for run in self.runs:
            found[run.kept].append(run)
        return {kept: tuple(found[kept]) for kept in sorted(found)}


@dataclass(frozen=True)
class Group:
    """What may be compared.

    Attributes:
        name: The data and the model, as short as tells them apart.
        task: What the model was trained for.
        about: The task, its data and the model in full.
        metric: What quality is: the first of the records' metrics.
        scale: What it is multiplied by to be shown: 100 for shares.
        baseline: Runs that removed no head.
        series: The other runs that came to an end.
        failed: Runs that did not.
        heads: How many heads each site of the model had; None if no record tells.
    """

    name: str
    task: str
    about: str
    metric: str
    scale: int
    baseline: tuple[RecordedRun, ...]
    series: tuple[Series, ...]
    failed: tuple[RecordedRun, ...]
    heads: dict[str, int] | None

    @property
    def total(self) -> int | None:
        """How many heads the model had; None if no record tells."""
        return sum(self.heads.values()) if self.heads else None

    @property
    def metric_label(self) -> str:
        """The metric's name and scale."""
        return f"{self.metric} (×100)" if self.scale == 100 else self.metric

    @property
    def runs(self) -> list[RecordedRun]:
        """All that came to an end, unpruned ones first."""
        return [*self.baseline, *(run for series in self.series for run in series.runs)]

    def quality(self, run: RecordedRun) -> float | None:
        """The run's quality as it is shown."""
        value = number(run.record.metrics.get(self.metric))
        return None if value is None else value * self.scale

    def unpruned(self) -> tuple[float, tuple[RecordedRun, ...]] | None:
        """The mean quality of the runs that removed nothing, and those runs."""
        found = [(value, run) for run in self.baseline if (value := self.quality(run)) is not None]
        return (mean(value for value, _ in found), tuple(run for _, run in found)) if found else None


def number(value: Any) -> float | None:
    """The number, if it is one and finite; None for whatever else stands in its place."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -1e300 < value < 1e300 else None  # false for NaN


def mean(values: Iterable[float]) -> float:
    """The mean of one value or more."""
    found = list(values)
    return min(max(math.fsum(found) / len(found), min(found)), max(found))  # the rounding of thirds adds up


def table(value: Any) -> dict[str, Any]:
    """Return the table, if it is one; an empty one for whatever else stands in its place."""
    return value if isinstance(value, dict) else {}


def number_at(values: Any, *names: str) -> float | None:
    """Return the number under these names, one table inside another; None if there is none."""
    for name in names:
        values = table(values).get(name)
    return number(values)
