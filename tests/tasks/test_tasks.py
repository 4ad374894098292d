"""The contract of tasks: each gives what the protocol promises. The documented task is one of those tested."""

import json
import sys
import types
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from translation_recipes import SHAPE

from headcount import Recipe, run_recipe
from headcount.directory.fingerprint import digest
from headcount.errors import BadData, BadRecipe
from headcount.experiments.recipe import make_task
from headcount.experiments.run import evaluate
from headcount.settings.training import TrainingSettings
from headcount.tasks import TASKS, is_task, task_class, task_names
from headcount.tasks.protocol import Collator, LabelKind, Prepared, Task

PAGE = Path(__file__).parents[2] / "docs" / "add-a-task.md"
Made = Callable[..., tuple[Task, Prepared]]


@pytest.fixture
def regression(monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """The task of docs/add-a-task.md, as it stands there, in the table."""
    module = types.ModuleType("regression")
    monkeypatch.setitem(sys.modules, "regression", module)
    exec(PAGE.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0], vars(module))
    monkeypatch.setitem(TASKS, "regression", module.Regression)
    return module.Regression  # type: ignore[no-any-return]


@pytest.fixture
def scores(tmp_path: Path) -> dict[str, str]:
    """Sentences with scores: 40 to learn from, 8 to measure on."""
    for name, count in {"train": 40, "validation": 8}.items():
        rows = [{"sentence": f"{'ab' * (i % 5)} {i}", "score": i % 5 / 2} for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "validation")}


@pytest.fixture
def made(
    tiny_bert_dir: Path, data: dict[str, str], parallel: dict[str, Any], scores: dict[str, str],
    regression: type[Any], tmp_path: Path,
) -> Made:  # fmt: skip
    """Makes a task on tiny data, with what it gives."""
    on: dict[str, tuple[dict[str, Any], str]] = {
        "classification": ({**data, "development": 16}, str(tiny_bert_dir)),
        "translation": (parallel, SHAPE),
        "regression": ({**scores, "development": 10}, str(tiny_bert_dir)),
    }

    def make(name: str, learns: bool = True) -> tuple[Task, Prepared]:
        task = make_task(name, {**on[name][0], "seed": 3})
        return task, task.prepare(on[name][1], tmp_path, learns)

    return make


EVERY = pytest.mark.parametrize("name", [*TASKS, "regression"])


@EVERY
def test_a_task_states_its_facts(name: str, made: Made) -> None:
    task, _ = made(name)
    kind = task_class(name)
    assert isinstance(task, Task) and task.seed == 3 and kind.followed > 0 and kind.figures
    assert kind.label_kind in get_args(LabelKind)
    assert set(kind.signed) <= {each.name for each in fields(kind)} - {"train", "validation", "seed"}


@EVERY
def test_a_task_gives_examples_and_batches(name: str, made: Made) -> None:
    task, given = made(name)
    assert min(map(len, (given.train, given.development, given.validation))) > 0 and given.summary
    assert isinstance(given.collator, Collator) and given.tokenizer is given.collator.tokenizer
    for rows in (given.train, given.development, given.validation):
        assert {"labels", "length"} <= set(rows.column_names)
    batch = given.collator([given.train[row] for row in range(3)])
    outputs = given.model(**batch)
    assert outputs.loss.ndim == 0 and all(len(value) == 3 for value in batch.values())
    labels = batch["labels"]
    kind = task.label_kind
    assert labels.is_floating_point() == (kind == "number") and labels.ndim == (2 if kind == "tokens" else 1)


@EVERY
def test_a_task_measures(name: str, made: Made) -> None:
    task, given = made(name)
    metrics = task.evaluate(given.model, given.validation, given.collator, device="cpu")
    followed = task.follow(given.model, given.development, given.collator)
    assert metrics and set(task.figures) <= set(followed)
    assert all(isinstance(value, float) for value in [*metrics.values(), *followed.values()])
    assert set(task.signatures()) <= set(metrics)


@EVERY
def test_calibration_inputs_have_no_labels(name: str, made: Made) -> None:
    _, given = made(name)
    batches = list(given.calibration(10, batch_size=4))
    assert [len(batch["input_ids"]) for batch in batches] == [4, 4, 2]
    assert not any("labels" in batch for batch in batches)
    whole = given.collator([given.train[row] for row in range(4)])
    with torch.inference_mode():
        blind, seeing = given.model.eval()(**batches[0]), given.model(**whole)
    assert torch.equal(blind.logits, seeing.logits) and blind.loss is None
    assert sum(len(batch["input_ids"]) for batch in given.calibration(10**6)) == len(given.train)


@EVERY
def test_equal_seeds_give_equal_models_and_examples(name: str, made: Made) -> None:
    (_, first), (_, second) = made(name), made(name)
    assert digest(first.model) == digest(second.model)
    assert first.train.to_list() == second.train.to_list()


@pytest.mark.parametrize("name", ["classification", "regression"])
def test_examples_to_measure_on_do_not_depend_on_learning(name: str, made: Made) -> None:
    _, blind = made(name, learns=False)
    assert blind.validation.to_list() == made(name)[1].validation.to_list()


def test_the_documented_task_works(
    regression: type[Any], scores: dict[str, str], tiny_bert_dir: Path, tmp_path: Path
) -> None:
    recipe = Recipe(
        str(tiny_bert_dir), "gradual", 3, {**scores, "development": 10, "max_length": 40}, task="regression",
        training=TrainingSettings(epochs=1.0, batch_size=8, lr=1e-3, checkpoint_every=0, looks=3), seed=1,
    )  # fmt: skip
    record = run_recipe(recipe, tmp_path / "out")
    assert set(record.metrics) == {"pearson", "mse"} and sum(map(len, record.subset.values())) == 3
    assert "|task:regression|" in record.signature and "|dev:10|" in record.signature
    assert "|len:40|" in record.signature
    assert evaluate(str(tmp_path / "out"), recipe.make_task()) == pytest.approx(record.metrics, abs=1e-3)
    assert Recipe.from_plain(record.recipe) == recipe


def test_the_documented_task_names_what_is_wrong(regression: type[Any], scores: dict[str, str], made: Made) -> None:
    with Path(scores["validation"]).open("a") as file:
        file.write('\n{"sentence": "ab", "score": "much"}')
    with pytest.raises(BadData, match="validation.jsonl, line 9: got .*much.* a number as 'score'"):
        made("regression")
    with pytest.raises(BadRecipe, match="Got data.max_length 'long'. Give a whole number."):
        make_task("regression", {**scores, "max_length": "long"})


def test_a_task_of_another_package(
    regression: type[Any], scores: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(TASKS, "regression")
    found = EntryPoint("theirs", "regression:Regression", "headcount.tasks")
    monkeypatch.setattr("headcount.tasks.entry_points", lambda group: [found] if group == "headcount.tasks" else [])
    assert task_names() == [*TASKS, "theirs"] and is_task("theirs") and not is_task("regression")
    recipe = Recipe("m", "michel", 3, scores, task="theirs")
    assert isinstance(recipe.make_task(), regression)
    with pytest.raises(BadRecipe, match="Unknown task 'their'. Valid tasks: classification, translation, theirs"):
        make_task("their", scores)


def test_the_signature_of_translation_keeps_its_parts_and_their_order() -> None:
    data = {
        "train": "a/train.de,a/train.en", "validation": "b/val.de,b/val.en", "validation_limit": 7,
        "development": "c/dev.de,c/dev.en", "languages": ("de", "en"), "codes": ("deu_Latn", "eng_Latn"),
        "vocabulary": "d/vocabulary.model", "coverage": 0.9, "max_length": 64, "beam": 4, "bleu_tokenize": "char",
    }  # fmt: skip
    training = TrainingSettings(steps=9, weight_decay=0.1, smoothing=0.001)
    signature = Recipe("m", "unpruned", None, data, task="translation", training=training, seed=2).signature(8, 8, 9)
    assert signature.rpartition("|v:")[0] == (
        "method:unpruned|keep:8/8|task:translation|model:m|train:a/train:9|eval:b/val:7|dev:c/dev|steps:9|lr:2e-05|"
        "batch:32|wd:0.1|len:64|smoothing:0.001|beam:4|pair:deu_Latn-eng_Latn|vocab:d/vocabulary|coverage:0.9|"
        "words:char|adam_beta2:0.999|seed:2"
    )
