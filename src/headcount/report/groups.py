"""Records in groups that may be compared, of one task's data and one model; in a group, series: a figure's lines."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from headcount.settings.records import Record, short_source

DATA = ("train", "validation", "train_limit", "validation_limit", "languages")
"""What makes two runs' data the same data; how it is read tells series apart, not groups."""

LOGGING = ("checkpoint_every", "looks", "look_every")
"""Training settings that have no say in the numbers."""

UNSCALED = ("bleu", "chrf", "ter")
"""Metrics that sacreBLEU gives in per cent already."""


@dataclass(frozen=True)
class Run:
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
        """Whether no budget was to be met: the unpruned model, which others are seen beside."""
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
        before, after = _of(self.origin.size, "before", "bytes"), _of(self.record.size, "after", "bytes")
        return 100 * (1 - after / before) if before and after is not None else None

    @property
    def predicted_speedup(self) -> float | None:
        """The ideal: the unpruned model's operations divided by this one's."""
        if (told := _of(self.record.speed, "predicted_speedup")) is not None:
            return told
        before, after = _of(self.origin.flops, "before"), _of(self.record.flops, "after")
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
        return _of(self.record.costs, purpose, what)

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
    runs: tuple[Run, ...]

    def budgets(self) -> dict[int, tuple[Run, ...]]:
        """The runs of each budget, ascending: its seeds."""
        found: dict[int, list[Run]] = defaultdict(list)
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
    baseline: tuple[Run, ...]
    series: tuple[Series, ...]
    failed: tuple[Run, ...]
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
    def runs(self) -> list[Run]:
        """All that came to an end, unpruned ones first."""
        return [*self.baseline, *(run for series in self.series for run in series.runs)]

    def quality(self, run: Run) -> float | None:
        """The run's quality as it is shown."""
        value = number(run.record.metrics.get(self.metric))
        return None if value is None else value * self.scale

    def unpruned(self) -> tuple[float, tuple[Run, ...]] | None:
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


def group(records: Sequence[Record]) -> list[Group]:
    """The records in groups of one task's data and one model each, in the order in which they come.

    A run that lies in two places counts once.
    """
    origins = _origins(records)
    parts: dict[str, list[Run]] = {}
    met: set[str] = set()
    for index, record in enumerate(records):
        if (what := _what_it_is(record)) in met:
            continue
        met.add(what)
        run = Run(index, record, origins[index])
        key = f"{_data_key(record)} {run.origin.recipe.get('model')}"
        parts.setdefault(key, []).append(run)
    groups = [_group(runs) for runs in parts.values()]
    for longer in (lambda each: f"{each.task}, {each.name}", lambda each: each.about):
        names = [each.name for each in groups]
        groups = [replace(each, name=longer(each)) if names.count(each.name) > 1 else each for each in groups]
    return _coloured(groups)


def _group(runs: list[Run]) -> Group:
    done = [run for run in runs if run.record.error is None]
    baseline = tuple(run for run in done if run.whole)
    first = next((run.record for run in runs if run.record.metrics), runs[0].record)
    metric = next(iter(first.metrics), "quality")
    values = [value for run in done if (value := number(run.record.metrics.get(metric))) is not None]
    shares = metric.lower() not in UNSCALED and all(-1 <= value <= 1 for value in values)
    pruned = sorted((run for run in done if not run.whole), key=lambda run: (run.kept, run.seed))
    return Group(
        name=_short(runs[0]),
        task=str(runs[0].record.recipe.get("task")),
        about=_full(runs[0]),
        metric=metric,
        scale=100 if shares else 1,
        baseline=baseline,
        series=tuple(_series(pruned)),
        failed=tuple(run for run in runs if run.record.error is not None),
        heads=next((heads for run in done if (heads := run.site_heads())), None),
    )


def _series(runs: list[Run]) -> Iterable[Series]:
    """A series a method; more where runs of one budget differ in more than the seed: only seeds are averaged."""
    for method in sorted({run.method for run in runs}):
        mine = [run for run in runs if run.method == method]
        settings = {run.index: _settings(run.record, mine) for run in mine}
        at: dict[tuple[int, str], set[str]] = defaultdict(set)
        for run in mine:
            for name, value in settings[run.index].items():
                at[run.kept, name].add(value)
        telling = sorted({name for (_, name), values in at.items() if len(values) > 1})
        parts: dict[tuple[str, ...], list[Run]] = defaultdict(list)
        for run in mine:
            parts[tuple(settings[run.index].get(name, "") for name in telling)].append(run)
        for values, members in sorted(parts.items()):
            shown = [f"{name}={value}" for name, value in zip(telling, values, strict=True) if value]
            yield Series(f"{method} ({', '.join(shown)})" if shown else method, 0, tuple(members))


def _settings(record: Record, others: Sequence[Run]) -> dict[str, str]:
    """What defines a run next to its data, model, method, budget and seed. An option not given is the default, ''.

    A setting of training or data not there is one that an older version did not write: it contradicts none.
    """
    recipe = record.recipe
    options = {str(name) for run in others for name in _table(run.record.recipe.get("options"))}
    found = {name: _table(recipe.get("options")).get(name, "") for name in sorted(options)}
    found |= {"sites": recipe.get("sites") or ""}
    found |= {name: value for name, value in _table(recipe.get("training")).items() if name not in LOGGING}
    data = _table(recipe.get("data"))
    found |= {name: value for name, value in data.items() if name not in DATA and value is not None}
    return {name: value if isinstance(value, str) else json.dumps(value, default=str) for name, value in found.items()}


def _coloured(groups: list[Group]) -> list[Group]:
    # What has most runs first: colours are fewer than methods, and the first ones are one line's alone.
    count: Counter[str] = Counter()
    for series in (series for each in groups for series in each.series):
        count[series.name] += len(series.runs)
    names = sorted(count, key=lambda name: (-count[name], name))
    return [
        replace(each, series=tuple(replace(series, colour=names.index(series.name)) for series in each.series))
        for each in groups
    ]


def _what_it_is(record: Record) -> str:
    """The same of two records of one run, which may lie in two places, or have been followed more closely in one."""
    training = {name: value for name, value in _table(record.recipe.get("training")).items() if name not in LOGGING}
    recipe = {**record.recipe, "training": training}
    return json.dumps([recipe, record.subset, record.metrics, record.error], sort_keys=True, default=str)


def _origins(records: Sequence[Record]) -> list[Record]:
    """For each record, the one its chain of models begins with: a run's model may be another's on the same data.

    Runs of two sweeps may have one name. What a run began with has the size that the other ended with; where that
    leaves several that began with other models, the run stands for itself.
    """
    named: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.name and record.error is None:
            named[_data_key(record), record.name].append(record)

    def before(record: Record) -> Record:
        model = PurePosixPath(str(record.recipe.get("model")).replace("\\", "/")).name
        size = _of(record.size, "before", "parameters")
        fit = [
            each
            for each in named.get((_data_key(record), model), [])
            if size is None or _of(each.size, "after", "parameters") in (None, size)
        ]
        return fit[0] if len({str(each.recipe.get("model")) for each in fit}) == 1 else record

    def origin(record: Record) -> Record:
        seen: list[Record] = []
        while not any(record is each for each in seen):
            seen.append(record)
            record = before(record)
        return record

    return [origin(record) for record in records]


def _data_key(record: Record) -> str:
    data = _table(record.recipe.get("data"))
    return json.dumps([record.recipe.get("task"), *(data.get(name) for name in DATA)], default=str)


def _short(run: Run) -> str:
    data = _table(run.record.recipe.get("data"))
    limit = data.get("train_limit")
    first = f"{short_source(str(data.get('validation')))}{f' ({limit} to learn from)' if limit else ''}"
    model = str(run.origin.recipe.get("model")).replace("\\", "/").split(",")[0]  # of a new one's shape, its name
    return f"{first}, {'/'.join(PurePosixPath(model).parts[-2:])}"


def _full(run: Run) -> str:
    data = {name: value for name, value in _table(run.record.recipe.get("data")).items() if value is not None}
    shown = {"task": run.record.recipe.get("task"), "model": run.origin.recipe.get("model"), **data}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _of(values: Any, *names: str) -> float | None:
    for name in names:
        values = _table(values).get(name)
    return number(values)
