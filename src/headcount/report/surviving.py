"""Which heads survive: layer by layer, kind by kind, budget by budget.

Li et al. 2021, Figure 6; Behnke and Heafield 2020, the head columns of Tables 3 and 4.
"""

from dataclasses import dataclass
from typing import Any

from headcount.report.recorded import Group, RecordedRun

KINDS = ("encoder", "decoder", "cross")
"""The kinds of attention, in the order in which the papers list them."""


@dataclass(frozen=True)
class Layer:
    """One site: its name, its kind, the number of its layer, and how many heads it had, if a record tells."""

    name: str
    kind: str
    layer: int
    heads: int | None


@dataclass(frozen=True)
class Surviving:
    """The heads that runs kept.

    Attributes:
        layers: The sites, kind by kind.
        runs: By series and seed, by budget: for each of `layers` the kept heads.
        note: What is not known of the sites.
        lacking: Why there is nothing to show.
    """

    layers: tuple[Layer, ...]
    runs: tuple[tuple[str, str, RecordedRun, tuple[tuple[int, ...], ...]], ...]
    note: str = ""
    lacking: str = ""


def surviving(group: Group) -> Surviving:
    """The heads that the group's runs kept, the greatest budget of a series and seed first."""
    layers, note = _layers(group)
    names = {layer.name for layer in layers}
    runs = [
        (series.name, run.seed, run, tuple(tuple(_indices(run.record.subset.get(layer.name))) for layer in layers))
        for series in group.series
        for run in sorted(series.runs, key=lambda run: (run.seed, -run.kept))
        if run.record.subset and set(run.record.subset) <= names
    ]
    return Surviving(tuple(layers), tuple(runs), note, "" if runs else "No run that removed heads names those it kept.")


def _layers(group: Group) -> tuple[list[Layer], str]:
    sites = next((run.record.sites for run in group.runs if run.record.sites), None)
    if sites:
        layers = [Layer(str(site["name"]), str(site["kind"]), int(site["layer"]), int(site["heads"])) for site in sites]
        return sorted(layers, key=lambda each: (_rank(each.kind), each.layer)), ""
    names = next((run.record.subset for run in group.runs if run.record.subset), {})
    heads = group.heads or {}
    layers = [Layer(name, "attention", number, heads.get(name)) for number, name in enumerate(names)]
    if heads:
        return layers, "These records are of format version 1, without a head map; sites are counted as layers."
    return layers, (
        "The total is unknown: these records are of format version 1, without a head map, and none is of the "
        "unpruned model. Sites are counted as layers; of each, heads up to the last kept are drawn."
    )


def _rank(kind: str) -> tuple[int, str]:
    return (KINDS.index(kind) if kind in KINDS else len(KINDS), kind)


def _indices(kept: Any) -> list[int]:
    return [index for index in kept if isinstance(index, int)] if isinstance(kept, list) else []
