"""Distillation: what is wrong is said before the teacher begins, and what another teacher wrote is not taken up."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from headcount.errors import BadData, BadRecipe
from headcount.experiments.demo.parallel_corpus import write
from headcount.experiments.distillation import Distillation, best_by_bleu, distil
from headcount.experiments.recipe import Recipe
from headcount.nmt import Hypothesis, Search
from headcount.tasks.translation import Translation
from headcount.tasks.translation_models import load_translator

STUDENT = "new:tiny-student,d_model=16,head_size=8,encoder_layers=1,encoder_heads=2,cross_heads=2,ffn_size=16"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Distillation:
    directory = tmp_path_factory.mktemp("distil")
    paths = [str(path) for path in write(directory / "corpus", 60)]
    data = {"train": ",".join(paths[:2]), "validation": ",".join(paths[2:]), "development": 5, "beam": 1}
    task = Translation(**{**data, "vocabulary": 90})
    prepared = task.prepare(STUDENT, directory / "new")
    prepared.model.save_pretrained(directory / "teacher")
    prepared.tokenizer.save_pretrained(directory / "teacher")
    training = replace(Translation.training, steps=2, batch_tokens=200, warmup=0)
    return Distillation(str(directory / "teacher"), STUDENT, data, Search(2, best=2), training)


def written(plan: Distillation, output: Path) -> list[str]:
    """The student's signature, and what the teacher wrote."""
    record = distil(plan, output)
    lines = output.with_name(output.name + ".distilled") / "train.target"
    return [record.signature, lines.read_text(encoding="utf-8")]


def test_a_student_learns_what_its_teacher_wrote(plan: Distillation, tmp_path: Path) -> None:
    signature, lines = written(plan, tmp_path / "out")
    assert "train:out.distilled/train:" in signature and lines.count("\n") > 20


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        pytest.param({"search": Search(3, best=2)}, r"search.beam was 2, is 3", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_what_another_teacher_wrote_is_not_taken_up(
    changes: dict[str, Any], says: str, plan: Distillation, tmp_path: Path
) -> None:
    with pytest.raises(BadData, match="No such file"):  # found after the teacher's part has begun
        distil(replace(plan, data={**plan.data, "validation": "a,b"}), tmp_path / "other")
    before = tmp_path / "out.distilled"
    written(plan, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "kept")
    with pytest.raises(BadRecipe, match=f"out.distilled' is of another distillation: {says}. Remove it"):
        distil(replace(plan, **changes), tmp_path / "out")
    assert before.is_dir() and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_other_sentences_and_other_weights_of_the_same_names_are_not_taken_up(
    plan: Distillation, tmp_path: Path
) -> None:
    source, target = (tmp_path / Path(each).name for each in plan.data["train"].split(","))
    for copy, given in zip((source, target), plan.data["train"].split(","), strict=True):
        shutil.copy(given, copy)
    shutil.copytree(plan.teacher, tmp_path / "teacher")
    mine = replace(plan, teacher=str(tmp_path / "teacher"), data={**plan.data, "train": f"{source},{target}"})
    distil(mine, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "kept")
    translated = tmp_path / "out.distilled" / "train.target"
    before, references = translated.read_text(encoding="utf-8"), target.read_text(encoding="utf-8")
    target.write_text("".join(reversed(references.splitlines(keepends=True))), encoding="utf-8")
    with pytest.raises(BadRecipe, match="of another distillation: the references changed since"):
        distil(mine, tmp_path / "out")
    target.write_text(references, encoding="utf-8")
    model, _ = load_translator(str(tmp_path / "teacher"))
    with torch.no_grad():
        model.output.bias += 1
    model.save_pretrained(tmp_path / "teacher")
    with pytest.raises(BadRecipe, match="the teacher's weights changed since"):
        distil(mine, tmp_path / "out")
    assert translated.read_text(encoding="utf-8") == before


@pytest.mark.slow
def test_a_killed_teacher_goes_on_with_its_next_line(
    plan: Distillation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, straight = written(plan, tmp_path / "straight")
    lines = straight.splitlines(keepends=True)
    asked: list[str] = []
    choose = best_by_bleu

    def counted(hypotheses: Any, tokenizer: Any, reference: str, bleu_tokenize: str) -> str:
        asked.append(reference)
        return choose(hypotheses, tokenizer, reference, bleu_tokenize)

    monkeypatch.setattr("headcount.experiments.distillation.best_by_bleu", counted)
    # A kill leaves whole lines and the beginning of one.
    _, again = written(plan, tmp_path / "out")
    directory = tmp_path / "out.distilled"
    (tmp_path / "out").rename(tmp_path / "kept")
    (directory / "train.target").unlink()
    (directory / "train.target.part").write_text("".join(lines[:10]) + "half a l", encoding="utf-8")
    asked.clear()
    distil(plan, tmp_path / "out")
    assert (directory / "train.target").read_text(encoding="utf-8") == again == straight
    assert len(asked) == len(lines) - 10


def test_of_n_translations_the_one_nearest_to_the_reference_is_taken(plan: Distillation) -> None:
    _, tokenizer = load_translator(plan.teacher)
    likely, near, same = (
        Hypothesis(score, tokenizer.encode_lines([text])[0][:-1])
        for score, text in ((-0.1, "eins"), (-0.2, "zwei drei vier fünf"), (-0.3, "zwei drei vier sechs"))
    )
    take = partial(best_by_bleu, tokenizer=tokenizer)
    assert take([[likely, near, same]], reference="zwei drei vier sechs") == "zwei drei vier sechs"
    assert take([[likely, near]], reference="zwei drei vier sechs") == "zwei drei vier fünf"
    assert take([[near, near, likely]], reference="neun") == "zwei drei vier fünf"  # of equals the likelier
    assert take([], reference="neun") == ""


def test_words_are_split_as_the_task_says() -> None:
    """Chinese has no spaces: 13a takes a sentence for one word, so that none is nearer than another."""

    class Characters:
        def decode_lines(self, ids: list[list[int]]) -> list[str]:
            return ["".join(map(chr, line)) for line in ids]

    likely, near = "他昨天买书。", "我今天早上去学校学习中文了。"
    found = [[Hypothesis(score, [*map(ord, text)]) for score, text in ((-0.1, likely), (-0.2, near))]]
    reference = "我今天早上去学校学习中文。"
    assert best_by_bleu(found, Characters(), reference, "zh") == near
    assert best_by_bleu(found, Characters(), reference) == likely


@pytest.mark.slow
def test_line_ends_inside_sentences_are_spaces(plan: Distillation, tmp_path: Path) -> None:
    """Rows of JSON may hold them; line n of the teacher's is still the translation of line n."""
    source, target = (Path(each).read_text(encoding="utf-8").splitlines() for each in plan.data["train"].split(","))
    rows = [{"en": a.replace(" ", "\n", 1), "de": b} for a, b in zip(source, target, strict=True)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {**plan.data, "train": str(tmp_path / "rows.jsonl"), "languages": ("en", "de")}
    distil(replace(plan, data=data, search=Search(2)), tmp_path / "out")
    read = [(tmp_path / "out.distilled" / f"train.{side}").read_text(encoding="utf-8") for side in ("source", "target")]
    assert read[0].splitlines()[0] in source and read[0].count("\n") == read[1].count("\n") == len(source) - 5


@pytest.mark.slow
def test_what_is_the_students_alone_may_change(plan: Distillation, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="No such file"):
        distil(replace(plan, data={**plan.data, "validation": "a,b"}), tmp_path / "out")
    moved = shutil.copytree(plan.teacher, tmp_path / "moved")
    distil(replace(plan, teacher=str(moved), data={**plan.data, "max_length": 100, "beam": 2}), tmp_path / "out")


def test_tables_are_read_by_the_columns_that_were_named(plan: Distillation, tmp_path: Path) -> None:
    """The target stands first; without pairs held out, besides."""
    files = {}
    for name in ("train", "validation"):
        source, target = (Path(each).read_text(encoding="utf-8").splitlines() for each in plan.data[name].split(","))
        files[name] = tmp_path / f"{name}.tsv"
        rows = [f"{b}\t{a}" for a, b in zip(source, target, strict=True)]
        files[name].write_text("\n".join(["trg\tsrc", *rows]) + "\n", encoding="utf-8")
    given = {name: str(file) for name, file in files.items()}
    data = {"beam": 1, "development": 0, "columns": ("src", "trg"), **given}
    record = distil(replace(plan, data=data), tmp_path / "out")
    task = Recipe(**{**record.recipe, "training": plan.training}).make_task()
    _, development, validation, _ = task.load()
    assert len(development) == 0
    assert (
        validation.sources[0] == Path(plan.data["validation"].split(",")[0]).read_text(encoding="utf-8").split("\n")[0]
    )


def test_a_vocabulary_that_is_not_there_is_told_before_the_teacher_begins(plan: Distillation, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="Cannot load a tokenizer from 'nofile'"):
        distil(replace(plan, data={**plan.data, "vocabulary": "nofile"}), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_directory_that_no_distillation_made_is_left_alone(plan: Distillation, tmp_path: Path) -> None:
    (tmp_path / "out.distilled").mkdir()
    (tmp_path / "out.distilled" / "mine").touch()
    with pytest.raises(BadRecipe, match="out.distilled' is there already, and not of a distillation"):
        distil(plan, tmp_path / "out")
    assert [each.name for each in (tmp_path / "out.distilled").iterdir()] == ["mine"]


@pytest.mark.parametrize("shape", ["new:foo", "new:tiny-student,ffn=3", "new:tiny-student,norm=middle"])
def test_a_student_that_cannot_be_is_refused_before_the_teacher_begins(
    shape: str, plan: Distillation, tmp_path: Path
) -> None:
    with pytest.raises(BadRecipe, match="foo|ffn|norm"):
        distil(replace(plan, student=shape), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_vocabulary(plan: Distillation, tmp_path: Path) -> None:
    file = tmp_path / "dev.en"
    file.write_text("no vocabulary")
    task = Translation(**{**plan.data, "vocabulary": str(file)})
    with pytest.raises(BadData, match="dev.en is no vocabulary: SentencePiece cannot read it. Give"):
        task.prepare(STUDENT, tmp_path / "new")
    with pytest.raises(BadData, match=r"cannot make 100000 pieces of this text: at most \d+ are possible\. Give fewer"):
        replace(task, vocabulary=100_000).prepare(STUDENT, tmp_path / "new")
