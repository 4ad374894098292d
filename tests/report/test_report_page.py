"""The report as a page and as files: nothing breaks out of it, it asks for nothing, and the command writes it."""

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
from records_made_up import failed, made_up, record

from headcount.errors import PruningError
from headcount.report import write_report
from headcount.report.dynamics import DYNAMICS
from headcount.report.figures import FIGURES
from headcount.report.page import embedded
from headcount.report.tables import TABLES
from headcount.report.values import MARKERS, PALETTE
from headcount.settings.records import Record, read_records
from processes import headcount
from recipes import slow

RESULTS = Path(__file__).parents[2] / "docs" / "results"
HOSTILE = '</script><script>alert("&1")</script><b onclick="x">\u2028{{ 7919 * 7919 }} =1+1'
ALL = FIGURES | DYNAMICS


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
    # Of figures with choices also each of them.
    chosen = {name for name in found if re.search(r"[.](6-heads|12-heads|voita|dsp-joint-x-2)[.](png|svg)$", name)}
    assert {"dynamics-kept.6-heads.svg", "dynamics-kept.12-heads.svg"} <= chosen
    for kept in (6, 12):
        title = f"Heads of the moment that stay for good: {kept} heads".encode()
        assert title in (tmp_path / "figures" / f"dynamics-kept.{kept}-heads.svg").read_bytes()
    found -= chosen
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
    with pytest.raises(PruningError, match=r"pip install 'headcount\[report\]'"):
        write_report([record()], tmp_path / "report.html", figures=tmp_path / "figures")
    assert (tmp_path / "report.html").exists()


def test_torch_is_never_imported(tmp_path: Path) -> None:
    """The report, with a package around it that imports nothing itself."""
    source = Path(__file__).parents[2] / "src" / "headcount"
    program = (
        "import sys, types; package = types.ModuleType('headcount'); package.__path__ = [sys.argv[1]]; "
        "sys.modules['headcount'] = package\n"
        "from pathlib import Path; from headcount.settings.records import read_records\n"
        "from headcount.report import write_report\n"
        "write_report(read_records(sys.argv[2])[0], Path(sys.argv[3]))\n"
        "sys.exit(bool({'torch', 'transformers', 'matplotlib'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program, source, RESULTS, tmp_path / "report.html"])
    assert ran.returncode == 0


def test_the_command(tmp_path: Path) -> None:
    ran = headcount("report", RESULTS, "-o", tmp_path / "r.html", "--title", "Ours")
    count = len(read_records(RESULTS)[0])
    assert ran.returncode == 0 and f"{count} records" in ran.stdout.replace("\n", " ")
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert len(page.data["records"]) == count and ("h1", {}) in page.elements and "Ours" in page.text
    told = headcount("report", RESULTS / "student.jsonl", "-o", tmp_path / "few.html", "--json")
    assert json.loads(told.stdout)["records"] == len(read_records(RESULTS / "student.jsonl")[0]) > 1
    missing = headcount("report", tmp_path / "nothing", "-o", tmp_path / "n.html")
    assert missing.returncode == 1 and "There is nothing at" in missing.stderr and not (tmp_path / "n.html").exists()
