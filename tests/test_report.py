"""The report: groups and series that may be compared, figures and tables by hand, a page that nothing breaks out of."""

import base64
import csv
import hashlib
import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from headcount import cli
from headcount.errors import CorruptRecord, PruningError
from headcount.records import Record, read_records
from headcount.report import write_report
from headcount.report.dynamics import DYNAMICS
from headcount.report.figures import FIGURES, quality, speed, speed_quality
from headcount.report.groups import Group, group
from headcount.report.page import embedded
from headcount.report.surviving import surviving
from headcount.report.tables import TABLES, budgets, costs, efficiency, glance
from headcount.report.values import MARKERS, PALETTE
from recipes import slow
from records_made_up import failed, made_up, record

RESULTS = Path(__file__).parents[1] / "docs" / "results"
HOSTILE = '</script><script>alert("&1")</script><b onclick="x">\u2028{{ 7919 * 7919 }} =1+1'
ALL = FIGURES | DYNAMICS


def one(records: list[Record]) -> Group:
    [only] = group(records)
    return only


class Page(HTMLParser):
    """What is on a page: elements with attributes, scripts, and the text outside of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.text, self.scripts, self.styles = "", [], []  # type: ignore[var-annotated]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tag)
        if tag == "script":
            self.scripts.append("")
        if tag == "style":
            self.styles.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside.append("/" + tag)

    def handle_data(self, data: str) -> None:
        if self.inside[-1:] == ["script"]:
            self.scripts[-1] += data
        elif self.inside[-1:] == ["style"]:
            self.styles[-1] += data
        else:
            self.text += data

    @property
    def data(self) -> Any:
        return json.loads(self.scripts[0])


def written(records: list[Record], tmp_path: Path, **more: Any) -> str:
    write_report(records, tmp_path / "report.html", **more)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


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


@pytest.mark.parametrize("key", [*ALL, *TABLES])
def test_what_records_lack_is_said(key: str) -> None:
    nothing: dict[str, Any] = {"metrics": {}, "size": {}, "costs": {}, "dynamics": [], "flops": {}, "speed": {}}
    bare = one([record(**nothing)])
    if key == "efficiency":  # a run that told nothing is a run
        return
    shown = (ALL | TABLES)[key](bare)
    assert shown.lacking.endswith(".") and not getattr(shown, "lines", ()) and not getattr(shown, "rows", ())


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


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    strange = [record(metrics={"accuracy": value}) for value in (math.nan, math.inf, -math.inf)]
    page = Page(written([*strange, record(seed=9)], tmp_path))
    [line] = page.data["parts"][0]["figures"]["quality"]["lines"]
    assert line["runs"] == [3]


def hostile() -> Record:
    plain = record()
    recipe = {**plain.recipe, "model": HOSTILE, "method": HOSTILE, "data": {"train": HOSTILE, "validation": HOSTILE}}
    texts = {"name": HOSTILE, "signature": HOSTILE, "heads": HOSTILE, "metrics": {HOSTILE: 0.5}}
    sites = [{**plain.sites[0], "name": HOSTILE, "kind": HOSTILE}]
    more = {"versions": {HOSTILE: HOSTILE}, "machine": {HOSTILE: HOSTILE}, "subset": {HOSTILE: [1]}}
    return replace(plain, recipe=recipe, sites=sites, **texts, **more)  # type: ignore[arg-type]


def test_no_text_of_a_record_becomes_markup(tmp_path: Path) -> None:
    records = [hostile(), replace(hostile(), error=HOSTILE, metrics={})]
    text = written(records, tmp_path, title=HOSTILE, problems=[HOSTILE])
    page, plain = Page(text), Page(written([record(), failed()], tmp_path, problems=["."]))
    tags = Counter(tag for tag, _ in page.elements)
    assert tags["script"] == 2 and tags["b"] == 0 and "62710561" not in page.text
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.scripts[1] == plain.scripts[1] and page.data["records"][0]["signature"] == HOSTILE
    assert HOSTILE.strip() in page.text


@given(st.text())
def test_embedded_data_reads_back_and_ends_no_script(text: str) -> None:
    found = embedded({text: [text]})
    assert json.loads(found) == {text: [text]} and not set(found) & set("<>&\u2028\u2029")


def test_the_page_asks_nothing_of_a_network(tmp_path: Path) -> None:
    text = written([*made_up(), failed()], tmp_path)
    page = Page(text)
    linked = [
        (tag, value)
        for tag, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data") and not str(value).startswith("#")
    ]
    assert linked == [("link", "data:,")]
    assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", page.styles[0] + page.scripts[1])


def test_the_policy_lets_only_this_script_and_style_in(tmp_path: Path) -> None:
    page = Page(written([record()], tmp_path))
    policy = next(str(each["content"]) for tag, each in page.elements if each.get("http-equiv"))
    for text in (page.styles[0], page.scripts[1]):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_no_records_is_said(tmp_path: Path) -> None:
    page = Page(written([], tmp_path))
    assert "There are no records here" in page.text and page.data == {
        "palette": list(PALETTE), "markers": list(MARKERS), "records": [], "parts": [],
    }  # fmt: skip


def test_failures_and_problems_are_listed(tmp_path: Path) -> None:
    page = Page(written([failed("ValueError: no"), record()], tmp_path, problems=["a.jsonl, line 3: not whole JSON"]))
    assert "ValueError: no" in page.text and "a.jsonl, line 3: not whole JSON" in page.text
    only = Page(written([failed("ValueError: no")], tmp_path))
    assert "ValueError: no" in only.text


def test_two_groups_have_a_selector_and_all_their_parts(tmp_path: Path) -> None:
    page = Page(written([*made_up(), *made_up("translation")], tmp_path))
    assert sum(tag == "option" and "value" in each for tag, each in page.elements) == 2
    assert [part["metric"] for part in page.data["parts"]] == ["accuracy (×100)", "bleu"]
    figures = [each["data-figure"] for _, each in page.elements if "data-figure" in each]
    assert Counter(figures) == dict.fromkeys(ALL, 2)


@slow
def test_a_thousand_records_are_a_small_page(tmp_path: Path) -> None:
    methods = [f"method-{number}" for number in range(10)]
    records = made_up(methods=methods, budgets=range(3, 63, 3), seeds=range(5))
    assert len(records) == 1001 and all(len(each.dynamics) == 10 for each in records)
    assert len(written(records, tmp_path).encode()) < 5e6


def test_the_same_records_give_the_same_page_over_an_old_one(tmp_path: Path) -> None:
    records = made_up(methods=["ste"])
    assert written(records, tmp_path) == written(records, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@slow
def test_figures_as_files(tmp_path: Path) -> None:
    records = made_up(methods=["voita", "dsp-joint $x^2$"], budgets=[6, 12])
    write_report(records, tmp_path / "report.html", figures=tmp_path / "figures")
    found = {path.name for path in (tmp_path / "figures").iterdir()}
    assert found == {
        *(f"{key}.{kind}" for key in (*ALL, "heads") for kind in ("png", "svg", "csv")),
        *(f"table-{key}.csv" for key in TABLES),
    }
    for name in found:
        content = (tmp_path / "figures" / name).read_bytes()
        if name.endswith(".png"):
            assert content.startswith(b"\x89PNG") and len(content) > 5000
        elif name.endswith(".svg"):
            assert ElementTree.fromstring(content).tag.endswith("svg")
            assert b"$x^2$" in content or name in ("convergence.svg", "lambda.svg")
        else:
            assert len(list(csv.reader(content.decode().splitlines()))) > 2
    points = list(csv.DictReader((tmp_path / "figures" / "quality.csv").read_text().splitlines(keepends=True)))
    assert {row["line"] for row in points} == {"voita", "dsp-joint $x^2$", "unpruned"}
    assert points[0]["signature"].count("method:") == 3  # its seeds


@slow
def test_figures_of_groups_have_directories_and_formulas_are_text(tmp_path: Path) -> None:
    records = [record(method="=cmd()"), record("translation")]
    write_report(records, tmp_path / "report.html", figures=tmp_path / "figures")
    first, second = sorted((tmp_path / "figures").iterdir())
    assert first.name.startswith("1-") and second.name.startswith("2-")
    assert "\n,'=cmd()," in (first / "quality.csv").read_text()


def test_without_matplotlib_the_page_is_written_and_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PruningError, match=r"pip install headcount\[report\]"):
        write_report([record()], tmp_path / "report.html", figures=tmp_path / "figures")
    assert (tmp_path / "report.html").exists()


def test_torch_is_never_imported(tmp_path: Path) -> None:
    """The report, with a package around it that imports nothing itself."""
    source = Path(__file__).parents[1] / "src" / "headcount"
    program = (
        "import sys, types; package = types.ModuleType('headcount'); package.__path__ = [sys.argv[1]]; "
        "sys.modules['headcount'] = package\n"
        "from pathlib import Path; from headcount.records import read_records\n"
        "from headcount.report import write_report\n"
        "write_report(read_records(sys.argv[2])[0], Path(sys.argv[3]))\n"
        "sys.exit(bool({'torch', 'transformers', 'matplotlib'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program, source, RESULTS, tmp_path / "report.html"], check=True)


def test_the_command(tmp_path: Path) -> None:
    ran = CliRunner().invoke(cli.app, ["report", str(RESULTS), "-o", str(tmp_path / "r.html"), "--title", "Ours"])
    count = len(read_records(RESULTS)[0])
    assert ran.exit_code == 0 and f"{count} records" in ran.output.replace("\n", " ")
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert len(page.data["records"]) == count and ("h1", {}) in page.elements and "Ours" in page.text
    missing = CliRunner().invoke(cli.app, ["report", str(tmp_path / "nothing"), "-o", str(tmp_path / "n.html")])
    assert isinstance(missing.exception, CorruptRecord) and not (tmp_path / "n.html").exists()
