"""Distillation: what is wrong is said before the teacher begins, and what another teacher wrote is not taken up."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headcount.distil import Distillation, distil
from headcount.errors import BadData, BadRecipe
from headcount.nmt import Search
from headcount.tasks.demo_parallel import write
from headcount.tasks.translation import Translation

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
    [({"seed": 1}, "seed was 0, is 1"), ({"search": Search(3, best=2)}, r"search.beam was 2, is 3")],
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
