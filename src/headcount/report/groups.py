"""Put records into groups of one data set and one model, and the runs of a group into series."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from headcount.report.recorded import Group, RecordedRun, Series, number, number_at, table
from headcount.settings.records import Record, short_source

DATA = ("train", "validation", "train_limit", "validation_limit", "languages")
"""The fields that identify a data set. Other fields of the data tell series apart, not groups."""

LOGGING = ("checkpoint_every", "looks", "look_every")
"""Training settings that do not change the figures."""

UNSCALED = ("bleu", "chrf", "ter")
"""Metrics that sacreBLEU gives in per cent already."""


def group(records: Sequence[Record]) -> list[Group]:
    """Return the records in groups of one data set and one model each, in their original order.

    A run that lies in two places counts once.
    """
    origins = _origins(records)
    parts: dict[str, list[RecordedRun]] = {}
    met: set[str] = set()
    for index, record in enumerate(records):
        if (what := _what_it_is(record)) in met:
            continue
        met.add(what)
        run = RecordedRun(index, record, origins[index])
        key = f"{_data_key(record)} {run.origin.recipe.get('model')}"
        parts.setdefault(key, []).append(run)
    groups = [_group(runs) for runs in parts.values()]
    for longer in (lambda each: f"{each.task}, {each.name}", lambda each: each.about):
        names = [each.name for each in groups]
        groups = [replace(each, name=longer(each)) if names.count(each.name) > 1 else each for each in groups]
    return _coloured(groups)


def _group(runs: list[RecordedRun]) -> Group:
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


def _series(runs: list[RecordedRun]) -> Iterable[Series]:
    """Yield one series for each method and its settings. A series averages over seeds only."""
    for method in sorted({run.method for run in runs}):
        mine = [run for run in runs if run.method == method]
        settings = {run.index: _settings(run.record, mine) for run in mine}
        at: dict[tuple[int, str], set[str]] = defaultdict(set)
        for run in mine:
            for name, value in settings[run.index].items():
                at[run.kept, name].add(value)
        telling = sorted({name for (_, name), values in at.items() if len(values) > 1})
        parts: dict[tuple[str, ...], list[RecordedRun]] = defaultdict(list)
        for run in mine:
            parts[tuple(settings[run.index].get(name, "") for name in telling)].append(run)
        for values, members in sorted(parts.items()):
            shown = [f"{name}={value}" for name, value in zip(telling, values, strict=True) if value]
            yield Series(f"{method} ({', '.join(shown)})" if shown else method, 0, tuple(members))


def _settings(record: Record, others: Sequence[RecordedRun]) -> dict[str, str]:
    """Return the settings that define a run beside its data, model, method, budget and seed.

    An option that was not given is the default, ''. Older versions did not write every setting of training and data;
    a missing setting contradicts no value.
    """
    recipe = record.recipe
    options = {str(name) for run in others for name in table(run.record.recipe.get("options"))}
    found = {name: table(recipe.get("options")).get(name, "") for name in sorted(options)}
    found |= {"sites": recipe.get("sites") or ""}
    found |= {name: value for name, value in table(recipe.get("training")).items() if name not in LOGGING}
    data = table(recipe.get("data"))
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
    """Return a text that is equal for two records of one run, also when they lie in two places."""
    training = {name: value for name, value in table(record.recipe.get("training")).items() if name not in LOGGING}
    recipe = {**record.recipe, "training": training}
    return json.dumps([recipe, record.subset, record.metrics, record.error], sort_keys=True, default=str)


def _origins(records: Sequence[Record]) -> list[Record]:
    """Return the first record in each record's chain of models: a run may start from the model of another run.

    Runs of two sweeps may share a name. The size at the start of a run then has to equal the size at the end of the
    other. If several records remain, and they started from different models, the run is its own origin.
    """
    named: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.name and record.error is None:
            named[_data_key(record), record.name].append(record)

    def before(record: Record) -> Record:
        model = PurePosixPath(str(record.recipe.get("model")).replace("\\", "/")).name
        size = number_at(record.size, "before", "parameters")
        fit = [
            each
            for each in named.get((_data_key(record), model), [])
            if size is None or number_at(each.size, "after", "parameters") in (None, size)
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
    data = table(record.recipe.get("data"))
    return json.dumps([record.recipe.get("task"), *(data.get(name) for name in DATA)], default=str)


def _short(run: RecordedRun) -> str:
    data = table(run.record.recipe.get("data"))
    limit = data.get("train_limit")
    first = f"{short_source(str(data.get('validation')))}{f' ({limit} to learn from)' if limit else ''}"
    model = str(run.origin.recipe.get("model")).replace("\\", "/").split(",")[0]  # of a new one's shape, its name
    return f"{first}, {'/'.join(PurePosixPath(model).parts[-2:])}"


def _full(run: RecordedRun) -> str:
    data = {name: value for name, value in table(run.record.recipe.get("data")).items() if value is not None}
    shown = {"task": run.record.recipe.get("task"), "model": run.origin.recipe.get("model"), **data}
    return ", ".join(f"{name} {value}" for name, value in shown.items())
