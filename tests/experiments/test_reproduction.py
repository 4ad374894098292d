"""The papers' experiments: each is there, is a valid grid at both scales, and is on the page as its file has it."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headcount.errors import BadData, BadRecipe
from headcount.experiments.recipe import Recipe
from headcount.experiments.reproduction import SCALES, experiment_names, read_experiment
from headcount.experiments.reproduction.carry_out import Plan, reproduce, waves
from headcount.experiments.reproduction.needs import Cost, Throughput, cost
from headcount.experiments.sweep import Work
from headcount.report.published import TABLES
from headcount.settings.records import read_records
from processes import headcount

ROOT = Path(__file__).parents[2]
NAMES = experiment_names()
GRIDS = [name for name in NAMES if read_experiment(name).source.name == name]

# What both papers show of experiments, by hand. Not here: Figure 1 of each, which are drawings; Tables 1 and 2 of Li et
# al., which are a summary in symbols and the hyper-parameters.
SHOWN = {
    "lottery": ["Table 1", "Table 2", "Figure 2", "Table 3", "Figure 3", "Table 4", "Table 5", "Table 6", "Table 7a",
                "Table 7b", "Table 8", "Table 9"],
    "dsp": ["Figure 2", "Figure 3a", "Figure 3b", "Figure 3c", "Figure 3d", "Figure 4", "Figure 5", "Figure 6a",
            "Figure 6b", "Figure 7", "Figure 8", "Table 3a", "Table 3b"],
}  # fmt: skip


def numbers(title: str) -> set[str]:
    """What a title names: `Figures 3a and 3c: …` names two."""
    kind, rest = title.split(":")[0].split(" ", 1)
    return {f"{kind.removesuffix('s')} {number}" for number in re.findall(r"\d+[a-z]?", rest)}


@pytest.fixture
def page_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reproduction_page", ROOT / "benchmarks" / "reproduction.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("paper", SHOWN)
def test_every_table_and_figure_is_there(paper: str) -> None:
    found = [numbers(read_experiment(name).title) for name in NAMES if name.startswith(f"{paper}-")]
    assert set().union(*found) == set(SHOWN[paper])
    assert sum(map(len, found)) == len(SHOWN[paper]), "one is there twice"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_says_all(name: str) -> None:
    experiment = read_experiment(name)
    assert numbers(experiment.title) & {name.split("-", 1)[1].replace("-", " ").capitalize()}
    assert experiment.published and all(len(row) == len(experiment.published[0]) for row in experiment.published)
    assert experiment.shows in TABLES and experiment.what[-1] in ".?" and experiment.differences.strip().endswith(".")
    assert {"shape", "tokens_a_step", "heads", "hardware"} <= set(experiment.needs)
    own = {"full", "small", "needs"} <= set(experiment.document.data)
    assert own == (name in GRIDS) and not read_experiment(experiment.source.name).runs_of


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", GRIDS)
def test_grids_are_valid_and_touch_nothing(
    name: str, scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("a grid must not touch the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    experiment = read_experiment(name)
    runs = Plan(experiment, scale, tmp_path / "out", model="encoder").runs()
    assert len({run.name for run in runs}) == len(runs) and not list(tmp_path.iterdir())
    assert all(isinstance(run.recipe, Recipe) for run in runs)
    assert not [text for run in runs for text in (run.recipe.model, *run.recipe.data.values()) if "{" in str(text)]
    assert [run.name for wave in waves(runs, tmp_path / "out") for run in wave] and (
        scale == "small" or len(runs) < 300
    )
    with_data = Plan(experiment, scale, tmp_path / "out", tmp_path, "encoder").runs()
    assert len(with_data) >= len(runs)
    if scale == "full":
        found = cost(runs, experiment.needs)
        assert found.runs == len(runs) and found.steps >= 1
        assert any(str(run.recipe.data["train"]).startswith("hub:") for run in runs)
    else:
        assert all((run.recipe.training.steps or 0) <= 900 for run in runs)


def test_reinitialised_runs_come_after_those_whose_structure_they_take(tmp_path: Path) -> None:
    runs = Plan(read_experiment("lottery-table-4"), "small", tmp_path).runs()
    first, second = waves(runs, tmp_path)
    assert {run.recipe.method for run in second} == {"reinit"}
    assert {Path(run.recipe.model).name for run in second} <= {run.name for run in first}


REINITIALISED = "reinit-k2-s0-model=runs_lottery-k2-s0"


def test_what_chosen_runs_go_on_from_is_chosen_too(tmp_path: Path) -> None:
    def names(*only: str) -> set[str]:
        return {run.name for run in Plan(read_experiment("lottery-table-4"), "small", tmp_path, only=only).runs()}

    whole = names()
    chosen = names("reinit", "k2")
    assert chosen < whole and {name for name in chosen if name.startswith("reinit")} == {REINITIALISED}
    assert "lottery-k2-s0" in chosen and len(chosen) == 2


@pytest.mark.slow
def test_nothing_is_begun_on_what_failed(tmp_path: Path) -> None:
    class Failing:
        size = 1

        def __init__(self) -> None:
            self.begun: list[str] = []

        def start(self, work: Work) -> None:
            self.begun.append(work.run.name)

        def wait(self, seconds: float) -> list[tuple[str, str | None]]:
            ended = [(name, "no luck") for name in self.begun]
            begun.extend(self.begun)
            self.begun = []
            return ended

        def close(self) -> None:
            pass

    begun: list[str] = []
    plan = Plan(read_experiment("lottery-table-4"), "small", tmp_path, only=("reinit", "k2"))
    progress, records, problems = reproduce(plan, Failing)
    assert not problems
    assert begun == ["lottery-k2-s0"] and [record.error for record in records] == ["no luck"]
    assert progress.failed[REINITIALISED] == "Not begun: it goes on from lottery-k2-s0, which failed."


def test_costs_are_counted_by_hand() -> None:
    """Of Table 4: the baseline and its two smaller sisters, tickets from a shared beginning, and their structures."""
    runs = Plan(read_experiment("lottery-table-4"), "full", Path("o")).runs()
    found = cost(runs, read_experiment("lottery-table-4").needs)
    tickets = sum(iterations * 15_000 + 450_000 for iterations in (9, 10, 11, 12, 13, 14))
    assert found.steps == 3 * 475_000 + 25_000 + tickets + 6 * 475_000
    bert = read_experiment("dsp-table-3a")
    [michel] = [run for run in Plan(bert, "full", Path("o")).runs() if run.name == "michel-k108-s42"]
    assert cost([michel], bert.needs).steps == 36_816 + 3 * 12_272
    assert Cost(1, 10, 7_200_000).hours(Throughput("x", "m", 1000.0, 1)) == 2.0


def test_what_does_not_exist_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="no experiment 'table-3'. Experiments: lottery-table-1, "):
        read_experiment("table-3")
    with pytest.raises(BadRecipe, match="Unknown scale 'huge'. Valid: full, small."):
        Plan(read_experiment("lottery-table-1"), "huge", tmp_path).runs()
    with pytest.raises(BadRecipe, match="No run has k999 in its name, whole between hyphens. Runs: unpruned-s0, "):
        Plan(read_experiment("lottery-table-1"), "small", tmp_path, only=["k999"]).runs()
    plan = Plan(read_experiment("dsp-figure-2"), "small", tmp_path, tmp_path, "encoder")
    with pytest.raises(BadData, match="nli/train.jsonl.gz.*must hold"):
        plan.write_data()


def test_a_wrong_value_in_the_place_of_an_experiments_is_named_so(tmp_path: Path) -> None:
    plan = Plan(read_experiment("lottery-table-3"), "small", tmp_path, changes={"data.vocabulary": 1.5})
    with pytest.raises(BadRecipe, match="^--set data.vocabulary: Got data.vocabulary 1.5. Give"):
        plan.runs()


def test_tables_of_records() -> None:
    kept = ROOT / "docs" / "results" / "reproduction"
    records, _ = read_records(kept / "dsp-figure-2.jsonl", kept / "dsp-table-3a.jsonl")
    for name, make in TABLES.items():
        rows = make(records)
        assert all(list(row) == list(rows[0]) for row in rows), name
        assert make([]) == []
    phrases = [each for each in records if "|eval:sst2/" in each.signature]
    left = {row["lambda"]: row["heads left open"] for row in TABLES["lambdas"](phrases)}
    assert left["0.0003"] == "27" and left["0.03"] == "0"
    settled = {
        row["method"]: row["subset final from step"] for row in TABLES["dynamics"](phrases) if row["heads"] == "12"
    }
    assert settled["dsp-pipelined"] == "38"


@pytest.mark.slow
def test_the_page_is_what_the_script_writes(page_script: ModuleType) -> None:
    page = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
    assert page == page_script.page(), "run: python benchmarks/reproduction.py"
    assert all(f"\n## {name}\n" in page for name in NAMES)


def test_kept_records_name_no_place_of_this_machine() -> None:
    kept = ROOT / "docs" / "results" / "reproduction"
    for file in kept.glob("*.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            assert not re.search(r'"/[a-z]', json.dumps(json.loads(line).get("recipe", {}))), file


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["reproduce"], "Name an experiment. See them: headcount reproduce --list."),
        (["reproduce", "dsp-table-9"], "There is no experiment 'dsp-table-9'."),
        (["reproduce", "lottery-table-1"], "To carry it out: --yes. For two cores: --scale small."),
        (["reproduce", "lottery-table-1", "--scale", "tiny"], "Unknown scale 'tiny'. Valid: full, small."),
        (["reproduce", "dsp-figure-2", "--scale", "small", "--data", "nowhere"], "There is no directory 'nowhere'."),
        (["reproduce", "dsp-table-3a", "--data", "."], "'dsp-table-3a' at full scale takes no --data"),
        (["reproduce", "lottery-table-1", "--scale", "small", "--model", "x"], "takes no --model"),
        (["reproduce", "lottery-table-1", "--scale", "small", "--workers", "0"], "Got workers 0."),
    ],
)
def test_what_is_wrong_is_told_in_a_line(arguments: list[str], told: str, tmp_path: Path) -> None:
    ran = headcount(*arguments, cwd=tmp_path)
    assert ran.returncode == 1 and told in ran.stderr and ran.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_list_has_all(tmp_path: Path) -> None:
    ran = headcount("reproduce", "--list", cwd=tmp_path)
    assert ran.returncode == 0 and all(name in ran.stdout for name in NAMES)
    rows = json.loads(headcount("reproduce", "--list", "--json", cwd=tmp_path).stdout)
    assert [row["name"] for row in rows] == NAMES


@pytest.mark.slow
def test_a_small_one_through_the_command(tmp_path: Path) -> None:
    """A tenth of the smallest: two waves, the second on the first's model."""
    changes = ["--set", "training.steps=20", "--set", "data.train_limit=2000", "--set", "data.validation_limit=20"]
    command = ["reproduce", "lottery-table-2", "--scale", "small", "-o", "out", "--threads", "1", *changes]
    ran = headcount(*command, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "published: Table 2" in ran.stdout and "ours, small scale" in ran.stdout and "4 of 4 runs done" in ran.stdout
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    records, problems = read_records(tmp_path / "out")
    assert {record.recipe["method"] for record in records} == {"unpruned", "voita"} and not problems
    again = json.loads(headcount(*command, "--json", cwd=tmp_path).stdout)
    assert len(again["ours"]) == 3 and len(again["published"]) == 4 and not again["failed"]
