"""The report in a real browser, headless, wide and narrow: what is on it, what it does, what it asks for."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from records_made_up import failed, made_up, record

from headcount.report import write_report
from headcount.report.dynamics import DYNAMICS
from headcount.report.figures import FIGURES
from headcount.settings.records import read_records

CHROMIUM = shutil.which("chromium")
WIDTHS = {"wide": 1280, "narrow": 390}
HOSTILE = "</script><img src=https://example.org/x.png onerror=alert(1)>"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium here: install the system's package (apt-get install chromium)"
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install headcount[dev]")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two groups, with failures, unreadable lines, and texts that would like to be more than text."""
    directory = tmp_path_factory.mktemp("report")
    records = [*made_up(seeds=(0, 1)), *made_up("translation", seeds=(0, 1)), failed(HOSTILE)]
    write_report(records, directory / "report.html", problems=[f"a.jsonl, line 3: {HOSTILE}"])
    write_report([], directory / "nothing.html")
    return directory


@pytest.fixture(params=WIDTHS)
def page(request: pytest.FixtureRequest, browser: Any, report: Path) -> Iterator[Any]:
    """The page at one width; at the end, nothing may have gone wrong or out."""
    context = browser.new_context(viewport={"width": WIDTHS[request.param], "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((report / "report.html").as_uri())
    yield page
    assert not said
    assert [url for url in asked if url != "data:,"] == [(report / "report.html").as_uri()]
    context.close()


def text(page: Any, selector: str) -> str:
    found: str = page.locator(selector).inner_text()
    return found


def copied(page: Any) -> str:
    page.wait_for_selector("#toast:not([hidden])")
    found: str = page.evaluate("navigator.clipboard.readText()")
    page.evaluate("navigator.clipboard.writeText('')")
    return found


@pytest.mark.parametrize("part", [0, 1])
def test_every_figure_is_there_and_not_empty(page: Any, part: int) -> None:
    page.select_option("#part", str(part))
    here = f'[data-part="{part}"]'
    assert page.locator(here).is_visible() and not page.locator(f'[data-part="{1 - part}"]').is_visible()
    for key in FIGURES | DYNAMICS:
        figure = page.locator(f'{here} [data-figure="{key}"] .plot svg')
        box = figure.bounding_box()
        assert box["width"] > 250 and box["height"] > 200, key
        assert figure.locator("path.path, path.mark").count() > 1 and figure.locator("text.tick").count() > 3, key
    assert page.locator(f"{here} .head.kept").count() == 18
    assert page.locator(f'{here} [data-table="budgets"] strong').count() >= 5


def test_nothing_is_wider_than_the_window(page: Any) -> None:
    for part in ("1", "0"):
        page.select_option("#part", part)
        width, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= window


def test_the_map_steps_by_button_slider_and_arrow_keys(page: Any) -> None:
    here = '[data-part="0"] '
    kept = page.locator(here + ".head.kept")
    budgets = [18, 12, 9, 6, 3]
    assert kept.count() == budgets[0] and "18 of 72 heads" in text(page, here + ".said")
    page.click(here + '[data-step="fewer"]')
    assert kept.count() == budgets[1] and "12 of 72 heads" in text(page, here + ".said")
    page.focus(here + ".map")
    page.keyboard.press("ArrowLeft")
    assert kept.count() == budgets[2]
    page.focus(here + "input[type=range]")
    page.keyboard.press("ArrowLeft")
    assert kept.count() == budgets[3]
    page.click(here + ".heat th button >> nth=0")
    assert kept.count() == budgets[4] and page.locator(here + '[data-step="fewer"]').is_disabled()
    page.focus(here + ".map")
    page.keyboard.press("End")
    assert kept.count() == budgets[0]
    page.select_option(here + "label:has-text('Method') select", "ste")
    page.select_option(here + "label:has-text('Seed') select", "1")
    page.focus(here + ".map")
    page.keyboard.press("Enter")
    assert copied(page) == "method:ste|keep:18/72|task:classification|seed:1|v:0.1.0"


def test_hover_shows_records_and_a_click_copies_their_signatures(page: Any) -> None:
    plot = page.locator('[data-part="0"] [data-figure="quality"] .plot')
    plot.scroll_into_view_if_needed()
    mark = plot.locator('g[data-line="michel"] path.mark').first.bounding_box()
    page.mouse.move(mark["x"] + mark["width"] / 2, mark["y"] + mark["height"] / 2)
    assert "michel" in text(page, "#card") and "mean of 2" in text(page, "#card") and "seed 1" in text(page, "#card")
    page.mouse.click(mark["x"] + mark["width"] / 2, mark["y"] + mark["height"] / 2)
    assert copied(page).splitlines() == [
        f"method:michel|keep:3/72|task:classification|seed:{seed}|v:0.1.0" for seed in (0, 1)
    ]
    page.mouse.move(5, 5)
    assert page.locator("#card").is_hidden()


def test_the_keyboard_does_the_same(page: Any) -> None:
    page.focus('[data-part="0"] [data-figure="quality"] .plot')
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    first = text(page, "#card")
    assert "dsp-joint" in first and "6" in first
    page.keyboard.press("ArrowDown")
    assert "dsp-pipelined" in text(page, "#card")
    page.keyboard.press("Enter")
    assert copied(page).startswith("method:dsp-pipelined|keep:6/72")
    page.keyboard.press("Escape")
    assert page.locator("#card").is_hidden()
    page.focus('[data-part="0"] [data-figure="costs"] .plot')  # far below: the page scrolls, and the card goes along
    page.keyboard.press("End")
    page.wait_for_timeout(1000)
    assert page.evaluate("scrollY") > 2000
    box = page.locator("#card").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= 900


def test_a_table_is_walked_by_arrow_keys(page: Any) -> None:
    page.focus('[data-part="0"] [data-table="budgets"] [tabindex="0"]')
    page.keyboard.press("ArrowDown")
    assert "dsp-joint" in text(page, "#card")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert copied(page).startswith("method:dsp-pipelined|keep:18/72")


def test_a_choice_shows_other_lines(page: Any) -> None:
    section = page.locator("#dynamics-0")
    ends = []
    for choice in ("3 heads", "18 heads"):
        section.locator("select").select_option(choice)
        section.locator('[data-figure="dynamics-kept"] summary').click()
        ends.append(section.locator('[data-figure="dynamics-kept"] tbody').inner_text())
        section.locator('[data-figure="dynamics-kept"] summary').click()
        assert section.locator('[data-figure="dynamics-kept"] .path').count() == 12  # six methods, two seeds
    assert all(ends)


def test_the_legend_hides_a_line(page: Any) -> None:
    figure = page.locator('[data-part="0"] [data-figure="quality"]')
    entry = figure.locator("button", has_text="ste")
    entry.click()
    assert figure.locator('g[data-line="ste"]').count() == 0 and entry.get_attribute("aria-pressed") == "false"
    entry.click()
    assert figure.locator('g[data-line="ste"]').count() == 1


def test_texts_of_records_stay_texts(page: Any) -> None:
    assert page.locator("img").count() == 0
    assert HOSTILE in text(page, "#failed") and HOSTILE in text(page, "#problems")
    page.click("#all summary")
    page.wait_for_selector("#all tbody tr")
    assert page.locator("#all tbody tr").count() == 123


def test_dark_and_light(page: Any) -> None:
    papers = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(papers) == 2


def test_a_page_of_nothing_says_so(page: Any, report: Path) -> None:
    other = page.context.new_page()
    other.goto((report / "nothing.html").as_uri())
    assert "There are no records here" in text(other, "#nothing")
    other.close()


def test_every_choice_of_our_own_records_is_drawn(browser: Any, tmp_path: Path) -> None:
    """Of all groups: no coordinate that is no number, no blank, and a word where a choice has nothing."""
    records, _ = read_records(Path(__file__).parents[2] / "docs" / "results")
    write_report(records, tmp_path / "report.html")
    page, said = browser.new_page(viewport={"width": 1280, "height": 900}), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_timeout(300)
    groups = page.locator("select").first
    for group in range(groups.locator("option").count()):
        groups.select_option(index=group)
        page.wait_for_timeout(200)
        for field in page.locator("select[data-choice]:visible").all():
            for choice in range(field.locator("option").count()):
                field.select_option(index=choice)
                assert page.evaluate(
                    "[...document.querySelectorAll('.plot svg')].every((each) => each.children.length > 1)"
                )
    assert not said
    page.close()


def test_a_thousand_large_records_are_stepped_through(browser: Any, tmp_path: Path) -> None:
    about = {"kind": "encoder", "heads": 12, "kv_heads": 12, "head_size": 64}
    sites = [{"name": f"layer.{layer}", "layer": layer, **about} for layer in range(24)]
    one = replace(record(), sites=sites, subset={site["name"]: list(range(8)) for site in sites})
    many = [replace(one, recipe={**one.recipe, "seed": seed}, name=f"r{seed}") for seed in range(1000)]
    write_report(many, tmp_path / "report.html")
    page, said = browser.new_page(), []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_timeout(1000)
    assert not said and page.get_by_text("192 of 288 heads").count()
    page.close()
