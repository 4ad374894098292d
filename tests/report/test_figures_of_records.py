"""What a report shows: groups and series that may be compared; figures, tables and the map of heads by hand."""

import math
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records_made_up import failed, made_up, record

from headcount.report.dynamics import DYNAMICS
from headcount.report.figures import FIGURES, quality, speed, speed_quality
from headcount.report.groups import group
from headcount.report.recorded import Group
from headcount.report.surviving import surviving
from headcount.report.tables import TABLES, budgets, costs, efficiency, glance
from headcount.settings.records import Record, read_records

RESULTS = Path(__file__).parents[2] / "docs" / "results"
ALL = FIGURES | DYNAMICS


def one(records: list[Record]) -> Group:
    [only] = group(records)
    return only


@pytest.mark.parametrize("task", ["classification", "translation"])
@pytest.mark.parametrize("key", ALL)
def test_every_figure_has_sound_values_of_records(key: str, task: str) -> None:
    records = made_up(task)
    figure = ALL[key](one(records))
    assert figure.key == key and figure.lines and not figure.lacking and figure.title and figure.caption
    for line in figure.lines:
        assert line.points and [each.x for each in line.points] == sorted(each.x for each in line.points)
        assert not line.choice or line.choice in figure.choices
        for each in line.points:
            assert all(map(math.isfinite, (each.x, each.y, each.low, each.high))) and each.low <= each.y <= each.high
            assert each.runs and all(0 <= index < len(records) for index in each.runs)


NOTHING: dict[str, Any] = {"metrics": {}, "size": {}, "costs": {}, "dynamics": [], "flops": {}, "speed": {}}


@pytest.mark.parametrize("key", [key for key in [*ALL, *TABLES] if key != "efficiency"])
def test_what_records_lack_is_said(key: str) -> None:
    shown = (ALL | TABLES)[key](one([record(**NOTHING)]))
    assert shown.lacking.endswith(".") and not getattr(shown, "lines", ()) and not getattr(shown, "rows", ())


def test_a_run_that_told_nothing_has_a_row_of_efficiency() -> None:
    table = efficiency(one([record(**NOTHING)]))
    assert [row[0].runs for row in table.rows] == [(0,)] and not table.lacking


@pytest.mark.parametrize("task", ["classification", "translation"])
@pytest.mark.parametrize("key", TABLES)
def test_every_table_has_its_columns_filled(key: str, task: str) -> None:
    records = made_up(task)
    table = TABLES[key](one(records))
    assert table.rows and all(sum(cell.span for cell in row) == len(table.columns) for row in table.rows)
    assert all(0 <= index < len(records) for row in table.rows for cell in row for index in cell.runs)


def seeds_of(values: list[float], method: str = "ste", keep: int = 12) -> list[Record]:
    return [record(method=method, keep=keep, seed=seed, metrics={"accuracy": x}) for seed, x in enumerate(values)]


def test_means_and_spreads_by_hand() -> None:
    found = one([*seeds_of([0.5, 0.75, 0.7]), *seeds_of([0.6], "michel"), record(method="unpruned", keep=None)])
    at = next(line for line in quality(found).lines if line.name == "ste").points[0]
    assert (at.x, at.low, at.high, at.runs, at.each) == (12, 50, 75, (0, 1, 2), (50, 75, 70))
    assert at.y == pytest.approx(65)
    unpruned, row = budgets(found).rows
    assert [cell.text for cell in row] == ["12", "60.00", "65.00 ± 13.23"]
    assert [cell.best for cell in row] == [False, False, True]
    assert [cell.text for cell in unpruned] == ["unpruned (72)", "90.00"]
    assert row[2].runs == (0, 1, 2)


def test_what_looks_equal_is_equally_best() -> None:
    found = one([*seeds_of([0.700001], "ste"), *seeds_of([0.7], "michel"), *seeds_of([0.4], "voita")])
    assert [cell.best for cell in budgets(found).rows[0]] == [False, True, True, False]


def test_shares_are_times_a_hundred_and_bleu_is_not() -> None:
    assert one(made_up()).metric_label == "accuracy (×100)"
    assert one(made_up("translation")).metric_label == "bleu"
    low = one([record("translation", metrics={"bleu": 0.04})])
    assert (low.metric_label, quality(low).lines[0].points[0].y) == ("bleu", 0.04)


def test_groups_are_of_one_data_and_one_model() -> None:
    elsewhere = record()
    data = {"train": "nli/train.tsv", "validation": "nli/validation.tsv"}
    other_data = replace(elsewhere, recipe={**elsewhere.recipe, "data": data})
    other_model = replace(elsewhere, recipe={**elsewhere.recipe, "model": "another"})
    unread = replace(elsewhere, recipe={**elsewhere.recipe, "data": {**elsewhere.recipe["data"], "max_length": 128}})
    found = group([elsewhere, other_data, other_model, unread])
    assert [[run.index for run in each.runs] for each in found] == [[0, 3], [1], [2]]
    assert len({each.name for each in found}) == 3


def test_a_chain_of_models_is_one_group_and_begins_with_the_unpruned_one() -> None:
    records, problems = read_records(RESULTS / "sst2", RESULTS / "nli")
    assert not problems and len(records) == 18
    sst2 = next(each for each in group(records) if each.name.startswith("sst2"))
    assert {series.name: len(series.runs) for series in sst2.series} == {"dsp-joint": 4, "michel": 4}
    assert len(sst2.baseline) == 1 and sst2.total == 72
    smallest = {series.name: series.runs[0].shrinkage for series in sst2.series}
    # Michel's 6 heads were cut from a model of 12; what counts is the unpruned one.
    assert smallest["michel"] == pytest.approx(smallest["dsp-joint"])


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_runs_of_two_sweeps_may_have_one_name(order: tuple[int, ...]) -> None:
    """What a run began with is told by its size; where that does not tell either, nothing is guessed."""
    small, large = record(keep=None, name="unpruned-s0"), record(keep=None, name="unpruned-s0")
    sizes = {each: {"parameters": each, "bytes": 4 * each} for each in (500, 900, 700)}
    large = replace(
        large, recipe={**large.recipe, "model": "encoders/large"}, size={"before": sizes[900], "after": sizes[900]}
    )
    small = replace(small, size={"before": sizes[500], "after": sizes[500]})
    cut = record(method="michel", keep=6)
    cut = replace(
        cut, recipe={**cut.recipe, "model": "out/runs/unpruned-s0"}, size={"before": sizes[900], "after": sizes[700]}
    )
    three = [small, large, cut]
    groups = group([three[i] for i in order])
    assert sorted(len(each.runs) for each in groups) == [1, 2]
    of_two = next(each for each in groups if len(each.runs) == 2)
    assert {run.origin.recipe["model"] for run in of_two.runs} == {"encoders/large"}
    same = replace(small, size=large.size)
    unknown = group([[same, large, cut][i] for i in order])
    assert [len(each.runs) for each in unknown] == [1, 1, 1]


def test_a_run_that_lies_in_two_places_counts_once() -> None:
    first, second = record(method="ste", seed=0), record(method="ste", seed=1)
    closer = replace(first, recipe={**first.recipe, "training": {**first.recipe["training"], "look_every": 5}})
    series = one([first, second, first, closer]).series
    assert [[run.index for run in each.runs] for each in series] == [[0, 1]]


def test_only_seeds_are_averaged() -> None:
    plain = record(method="voita", seed=0)
    other = [
        replace(plain, recipe={**plain.recipe, "seed": 1}),
        replace(plain, recipe={**plain.recipe, "options": {"lambda": 0.01}}),
        replace(plain, recipe={**plain.recipe, "training": {"epochs": 1.0, "lr": 0.001}}),
        replace(plain, recipe={**plain.recipe, "training": {"epochs": 1.0, "lr": 1e-4, "looks": 3, "new": True}}),
    ]
    found = {series.name: [run.index for run in series.runs] for series in one([plain, *other]).series}
    assert found == {
        "voita (lr=0.0001)": [0, 4, 1],
        "voita (lambda=0.01, lr=0.0001)": [2],
        "voita (lr=0.001)": [3],
    }


def test_a_setting_that_changes_with_the_budget_splits_no_line() -> None:
    low, high = record(keep=6), record(keep=12)
    high = replace(high, recipe={**high.recipe, "training": {"epochs": 2.0}})
    assert [series.name for series in one([low, high]).series] == ["dsp-joint"]


@given(st.lists(st.tuples(st.integers(10, 30), st.integers(0, 100)), min_size=1, max_size=30))
def test_nothing_surpasses_the_pareto_front(values: list[tuple[int, int]]) -> None:
    records = [
        record(keep=1 + i, metrics={"accuracy": y / 100}, speed={"speedup": x / 10}, looks=0)
        for i, (x, y) in enumerate(values)
    ]
    front, *others = speed_quality(one(records)).lines
    at = {(each.x, each.y) for each in front.points}
    every = {(each.x, each.y) for line in others for each in line.points}
    better = {(x, y) for x, y in every if any((a >= x and b >= y) and (a, b) != (x, y) for a, b in every)}
    assert front.name == "Pareto front" and at == every - better


def test_speed_has_quartiles_and_what_operations_predict() -> None:
    lines = {line.name: line for line in speed(one(made_up(methods=["ste"], seeds=[0], budgets=[12]))).lines}
    [measured], [predicted] = lines["ste"].points, lines["ste: predicted"].points
    assert measured.y - measured.low == pytest.approx(0.02) == measured.high - measured.y
    assert measured.y == pytest.approx(1.475) and predicted.y == pytest.approx(1 + 0.7 * 60 / 72)
    unmeasured = speed(one([record(speed={})]))
    assert [line.name for line in unmeasured.lines] == ["dsp-joint: predicted"] and "No record" in unmeasured.caption


def test_speeds_under_different_conditions_are_apart() -> None:
    fast = record(seed=1)
    found = speed(one([record(), replace(fast, speed={**fast.speed, "threads": 4})]))
    assert sum("predicted" not in line.name for line in found.lines) == 2


def test_voitas_search_is_in_the_figure_of_lambda() -> None:
    [line] = FIGURES["lambda"](one(made_up(methods=["voita"], budgets=[12], seeds=[0]))).lines
    assert [(each.x, each.y) for each in line.points] == [(0.0015, 21), (0.006, 13), (0.024, 2)]


def test_costs_by_hand() -> None:
    found = one(made_up(methods=["lottery"], budgets=[12]))
    [unpruned, lottery] = [[cell.text for cell in row] for row in costs(found).rows]
    assert lottery == ["lottery", "12", "375", "471.0", "1,788", "50", "60.0", "1,000", "531.0"]
    assert unpruned[5:] == ["–", "–", "–", "470.0"]


def test_speeds_under_several_conditions_are_not_averaged() -> None:
    """Ten milliseconds of a batch of one and 300 of 32 are not 155 of anything."""
    speeds = [
        {"batch_size": 1, "milliseconds": 10.0, "speedup": 1.1},
        {"batch_size": 32, "milliseconds": 300.0, "speedup": 2.0},
    ]
    records = [record(seed=seed, speed={**speed, "device": "cpu"}) for seed, speed in enumerate(speeds)]
    [found] = group(records)
    table = efficiency(found)
    [row] = table.rows
    assert row[-3].text == row[-2].text == "–" and "under several, see the figures" in table.caption
    [alike] = group([record(seed=seed, speed=speeds[0]) for seed in range(2)])
    assert [cell.text for cell in efficiency(alike).rows[0]][-3:-1] == ["10.0", "1.100"]


def test_groups_of_translation_have_names() -> None:
    """Data of two files, and a new model's shape."""
    recipe = {
        "model": "new:transformer-base,encoder_layers=4", "method": "unpruned", "task": "translation",
        "data": {"train": "d/multi30k/train.en.gz,x", "validation": "d/multi30k/t.en.gz,d/multi30k/t.de.gz"},
    }  # fmt: skip
    [found] = group([replace(record(method="unpruned", keep=None), recipe=recipe)])
    assert found.name == "multi30k/t, new:transformer-base"


def test_efficiency_by_hand() -> None:
    found = one([record(method="unpruned", keep=None), record(metrics={"accuracy": 0.8})])
    row = [cell.text for cell in efficiency(found).rows[1]]
    assert row[:2] == ["dsp-joint", "12 of 72"] and row[3:5] == ["80.00", "-10.00"]
    assert row[5:] == ["19,759,106", "79.0", "53.6", "1.492", "1.583"]


def test_the_stage_that_ended_with_the_subset_is_shown() -> None:
    looks = [
        {"stage": stage, "step": step, "loss": loss, "finally_kept": kept}
        for stage, step, loss, kept in [
            ("lambda-1", 1, 0.9, 0.5), ("lambda-2", 1, 0.8, 0.5), ("lambda-2", 2, 0.7, 1.0), ("lambda-3", 1, 0.6, 0.2),
        ]
    ]  # fmt: skip
    [line] = ALL["dynamics-loss"](one([record(dynamics=looks)])).lines
    assert [(each.x, each.y) for each in line.points] == [(1, 0.8), (2, 0.7)]


def test_the_map_has_the_records_heads() -> None:
    records = made_up("translation", methods=["ste"], seeds=[0])
    found = surviving(one(records))
    assert [layer.kind for layer in found.layers] == ["encoder"] * 2 + ["decoder"] * 2 + ["cross"] * 2
    for _, _, run, subset in found.runs:
        kept = {layer.name: list(heads) for layer, heads in zip(found.layers, subset, strict=True)}
        assert kept == records[run.index].subset


def test_a_map_without_sites_takes_the_total_from_the_unpruned_model_or_says_it_is_unknown() -> None:
    told = surviving(one([record(method="unpruned", keep=None, sites=[]), record(sites=[])]))
    untold = surviving(one([record(sites=[])]))
    assert {layer.heads for layer in told.layers} == {12} and "version 1" in told.note
    assert {layer.heads for layer in untold.layers} == {None} and "total is unknown" in untold.note
    assert [layer.layer for layer in untold.layers] == list(range(6))


def test_first_what_matters() -> None:
    near = [*seeds_of([0.894, 0.892], "voita", 9), *seeds_of([0.9, 0.7], "ste", 6), *seeds_of([0.895], "ste", 18)]
    whole = record(method="unpruned", keep=None)
    found = {name: (cell.text, note) for name, cell, note in glance(one([*near, whole, failed()]))}
    assert found["runs"] == ("7", "2 seeds, 1 failed") and found["methods"] == ("2", "3 budgets")
    assert found["unpruned, accuracy (×100)"] == ("90.00", "with all 72 heads")
    assert found["fewest heads within 1 point"] == ("9 of 72", "voita, -0.70")
