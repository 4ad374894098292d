"""Recipes and grids of them from TOML files: what they say, and what is wrong with them, by file and key."""

import json
import tomllib
from pathlib import Path

import pytest

from headcount.errors import BadRecipe
from headcount.experiments.grid import Grid, having, read_recipe
from headcount.experiments.recipe import Recipe, differences
from headcount.settings.toml import Document
from headcount.settings.training import TrainingSettings

ONE = """\
model = "bert"
method = "michel"
keep = 12

[data]
train = "train.tsv"
validation = "validation.tsv"
text = ["premise", "hypothesis"]

[options]
examples = 100

[training]
epochs = 1
lr = 1e-4
"""

MANY = """\
model = "bert"
keep = [12, 24]
seed = [0, 1]

[data]
train = "train.tsv"
validation = "validation.tsv"
text = ["premise", "hypothesis"]

[training]
lr = [1e-4, 2e-4]

[[grid]]
method = ["dsp-joint", "unpruned"]

[[grid]]
method = "lottery"
seed = 0
options.max_per_site = 1
"""


def document(text: str) -> Document:
    return Document("sweep.toml", tomllib.loads(text))


def test_a_file_is_the_recipe_that_it_states() -> None:
    data = {"train": "train.tsv", "validation": "validation.tsv", "text": ("premise", "hypothesis")}
    wanted = Recipe(
        "bert", "michel", 12, data, options={"examples": 100}, training=TrainingSettings(epochs=1.0, lr=1e-4)
    )
    assert read_recipe(document(ONE), {}) == wanted


def test_a_recipe_comes_back_from_its_plain_data() -> None:
    recipe = read_recipe(document(ONE), {})
    assert Recipe.from_plain(recipe.to_json()) == recipe


def test_a_recipe_of_translation_starts_from_the_tasks_own_training() -> None:
    text = ONE.replace('model = "bert"', 'model = "new:tiny-student"\ntask = "translation"')
    training = read_recipe(document(text.replace('text = ["premise", "hypothesis"]', "")), {}).training
    assert (training.lr, training.schedule, training.batch_tokens) == (1e-4, "inverse_sqrt", 4096)


def test_a_wrong_value_in_the_place_of_the_files_is_named_so() -> None:
    with pytest.raises(BadRecipe, match="^--set training.lr: Got training.lr 'x'. Give a number above 0."):
        Grid(document(MANY), {"training.lr": "x"}).runs()


def test_the_unpruned_model_runs_once_whatever_the_budgets_are_over() -> None:
    text = MANY.replace("keep = [12, 24]", 'keep = [12, 24]\nunit = ["group", "query"]').replace(
        "lr = [1e-4, 2e-4]", ""
    )
    runs = Grid(document(text), {}).runs()
    assert [run.name for run in runs if run.recipe.method == "unpruned"] == ["unpruned-s0", "unpruned-s1"]


def test_values_may_be_put_in_the_places_of_the_files() -> None:
    changed = read_recipe(document(ONE), {"keep": 3, "training.epochs": 2.0, "data.train": "other.tsv"})
    assert (changed.keep, changed.training.epochs, changed.data["train"]) == (3, 2.0, "other.tsv")
    assert changed.data["validation"] == "validation.tsv"


def test_every_list_is_a_field_of_the_grid() -> None:
    grid = Grid(document(MANY), {})
    names = [run.name for run in grid.runs()]
    assert grid.count == 2 * 2 * 2 * 2 + 2 * 2
    # Without pruning a budget means nothing: one run for each seed and learning rate.
    assert len(names) == 8 + 4 + 4 and len(set(names)) == len(names)
    assert "dsp-joint-k12-s1-lr=0.0002" in names and "unpruned-s0-lr=0.0001" in names
    assert [run.recipe.options for run in grid.runs() if run.recipe.method == "lottery"] == [{"max_per_site": 1}] * 4
    assert all(run.recipe.data["text"] == ("premise", "hypothesis") for run in grid.runs())


def test_a_grid_of_any_size_is_counted() -> None:
    whole = {f"training.{name}": list(range(1, 100_000)) for name in ("looks", "average", "look_every", "stop_after")}
    assert Grid(document(MANY), whole).count > 2**63  # more than len() can say


def test_runs_are_chosen_by_whole_parts_of_their_names() -> None:
    text = MANY.replace("keep = [12, 24]", "keep = [3, 36]")
    runs = Grid(document(text), {}).runs()
    chosen = [run.name for run in having(runs, ["k3", "s1"])]
    assert chosen and all("-k3-s1-" in f"-{name}-" for name in chosen)
    assert having(runs, []) == runs
    with pytest.raises(BadRecipe, match="No run has k4 and s1 in its name, whole between hyphens. Runs: dsp-joint-k3"):
        having(runs, ["k4", "s1"])
    with pytest.raises(BadRecipe, match="and 2 more, which --dry-run lists"):
        having([*runs, *runs][:10], ["k4"])


def test_a_value_from_the_command_line_is_not_looked_for_in_the_file() -> None:
    with pytest.raises(BadRecipe, match=r"^--set seed: Got seed -1. Give a whole number of at least 0"):
        Grid(document(MANY), {"seed": -1}).runs()


def test_a_grid_that_grows_in_seeds_finds_its_runs_again() -> None:
    few = MANY.replace("seed = [0, 1]", "seed = [0]")
    assert {run.name for run in Grid(document(few), {}).runs()} < {run.name for run in Grid(document(MANY), {}).runs()}


def test_a_name_tells_tables_apart() -> None:
    text = MANY.replace('method = "lottery"', 'method = "lottery"\nname = "first"')
    assert "first-lottery-k12-s0-lr=0.0001" in [run.name for run in Grid(document(text), {}).runs()]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr =", "rate =", r"sweep.toml, \[\[grid\]\] 1: unknown key 'rate' in \[training\]. Valid: epochs, steps"),
        ("lr = [1e-4, 2e-4]", "lr = [1e-4, 'x']", "1: Got training.lr 'x'. Give a number above 0."),
        ('train = "train.tsv"', "", "1: Task 'classification' has no train. Give data.train."),
        ("lr = [1e-4, 2e-4]", "lr = nan", "Got training.lr nan. Give a finite number above 0."),
        ("lr = [1e-4, 2e-4]", "lr = -1", "Got training.lr -1. Give a number above 0."),
        ("train =", "trian =", r"1: unknown key 'trian' in \[data\]. Valid: train, validation"),
        ("seed = [0, 1]", "seed = [0, true]", "1: Got seed True. Give a whole number"),
        ("seed = [0, 1]", "seed = 99999999999", "Got seed 99999999999. Give .* below 4294967296"),
        ("keep = [12, 24]", "keep = []", "1: 'keep' is an empty list: a grid of no runs"),
        ("keep = [12, 24]", "heads = 3", "1: unknown key 'heads'. Valid: model, method, keep"),
        ("keep = [12, 24]", "", "Method 'dsp-joint' needs a budget"),
        ('model = "bert"', "", "the recipe has no 'model'"),
        ('"lottery"', '"loterie"', "2: Unknown method 'loterie'. Valid methods: dsp-joint"),
        ("max_per_site = 1", "max_per_site = 'x'", "2: Got options.max_per_site 'x' of method 'lottery'. Give"),
        ("max_per_site = 1", "per_site = 1", r"2: unknown key 'per_site' in \[options\] of method 'lottery'"),
        ('train = "train.tsv"', 'train = ["a b.tsv", "a_b.tsv"]',
         r"1: two runs have the name 'dsp-joint-k12-s0-lr=0.0001-train=a_b.tsv'; the other is of .* 1"),
        ("[[grid]]\nmethod = [", "name = 3\n[[grid]]\nmethod = [", r"unknown key 'name' in \[training\]"),
        ('text = ["premise", "hypothesis"]', "text = 3", "1: Got data.text 3. Give a list of texts or nothing."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_and_key(old: str, new: str, message: str) -> None:
    assert old in MANY
    with pytest.raises(BadRecipe, match=message):
        Grid(document(MANY.replace(old, new)), {}).runs()


def test_two_tables_that_differ_in_options_alone_are_told_apart_by_them() -> None:
    other = '\n[[grid]]\nmethod = "dsp-joint"\noptions.scores_lr = 1.0\n'
    names = [run.name for run in Grid(document(MANY + other), {}).runs()]
    assert "dsp-joint-k12-s0-lr=0.0001-scores_lr=1.0" in names and "dsp-joint-k12-s0-lr=0.0001" in names


@pytest.mark.parametrize(
    ("values", "name", "ends"),
    [
        (["数据一", "数据二"], "", ["train=数据一", "train=数据二"]),
        (["x" * 300 + "1", "x" * 300 + "2"], "", None),
        (["数" * 300 + "1", "数" * 300 + "2"], "", None),
        (["a", "b"], "..hidden", ["train=a", "train=b"]),
    ],
)
def test_names_are_fit_for_directories(values: list[str], name: str, ends: list[str] | None) -> None:
    text = ONE.replace('train = "train.tsv"', f"train = {json.dumps(values, ensure_ascii=False)}")
    names = [run.name for run in Grid(document(f'name = "{name}"\n{text}'), {}).runs()]
    assert len(set(names)) == 2 and all(len(each.encode()) <= 180 and not each.startswith(".") for each in names)
    assert ends is None or [each.rpartition("-")[2] for each in names] == ends


def test_a_grid_is_no_recipe() -> None:
    with pytest.raises(BadRecipe, match="a grid of 20 runs. Run it by: headcount sweep sweep.toml"):
        read_recipe(document(MANY), {})


def test_a_file_may_begin_with_the_mark_of_its_encoding(tmp_path: Path) -> None:
    (tmp_path / "marked.toml").write_text("\ufeff" + ONE, encoding="utf-8")
    assert read_recipe(Document.read(tmp_path / "marked.toml"), {}).keep == 12


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="There is no file"):
        Document.read(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("keep = 3\nmethod = \n")
    with pytest.raises(BadRecipe, match="cannot be read as TOML.*line 2"):
        Document.read(tmp_path / "broken.toml")


def test_differences_name_both_values() -> None:
    found = {"keep": 3, "training": {"lr": 1.0, "steps": 2}, "text": ["a"]}
    wanted = {"keep": 4, "training": {"lr": 1.0, "steps": 3}, "text": ("a",)}
    assert differences(found, wanted) == ["keep was 3, is 4", "training.steps was 2, is 3"]
