"""The commands of translation, as processes: from two text files to translations on standard output."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headcount.cli.translation import new_shape
from headcount.experiments.demo.demonstration import encoder_directory
from headcount.experiments.demo.parallel_corpus import write
from headcount.tasks.translation_models import load_translator
from processes import headcount

SHAPE = "transformer-base,d_model=16,head_size=8,encoder_layers=1,decoder_layers=1,encoder_heads=2,decoder_heads=2," \
    "cross_heads=2,ffn_size=16"  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    paths = write(tmp_path_factory.mktemp("corpus"), 100)
    train_en, train_de, validation_en, validation_de = map(str, paths)
    return {"train": f"{train_en},{train_de}", "validation": f"{validation_en},{validation_de}"}


@pytest.fixture(scope="module")
def trained(corpus: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("models") / "teacher"
    done = headcount(
        "train-nmt", SHAPE, "-o", output, "--train", corpus["train"], "--validation", corpus["validation"],
        "--vocabulary", "100", "--steps", "4", "--batch-tokens", "400", "--warmup", "2", "--lr", "0.01",
        "--training", "smoothing=0.1", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert set(record["metrics"]) == {"bleu", "chrf"} and record["recipe"]["training"]["adam_beta2"] == 0.98
    assert "|schedule:inverse_sqrt|warmup:2|smoothing:0.1|" in record["signature"]
    return output


@pytest.mark.slow
def test_translate_line_for_line(trained: Path) -> None:
    lines = ["Three apples.", "", "The third of March.", "   ", "Tomorrow\tshe\u2028buys </s> it."]
    stdin = "\n".join(lines) + "\nbroken \udcff\udcfe bytes\r\nno end"
    done = headcount("translate", trained, "--beam", "2", stdin=stdin)
    assert done.returncode == 0, done.stderr
    out = done.stdout.split("\n")
    assert len(out) == 8 and out[-1] == "" and out[1] == "" == out[3]
    told = done.stderr
    assert "7 lines, 2 empty, 1 not UTF-8, replaced" in " ".join(told.split())
    one_by_one = headcount("translate", trained, "--beam", "2", stdin="The third of March.\n")
    assert one_by_one.stdout.rstrip("\n") == out[2]


@pytest.mark.slow
def test_long_lines(trained: Path) -> None:
    stdin = "four " * 400 + "\nthree\n"
    split = headcount("translate", trained, "--beam", "1", "--max-length", "60", stdin=stdin)
    cut = headcount("translate", trained, "--beam", "1", "--max-length", "60", "--long", "truncate", stdin=stdin)
    assert split.stdout.count("\n") == cut.stdout.count("\n") == 2
    assert "1 split" in split.stderr and "1 truncated" in cut.stderr
    assert split.stdout.split("\n")[1] == cut.stdout.split("\n")[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGPIPE")
def test_a_closed_pipe_is_no_error(trained: Path) -> None:
    command = f"{sys.executable} -m headcount translate {trained} --beam 1 --batch-tokens 8 | head -n 1"
    stdin = b"The third of March.\n" * 3000
    done = subprocess.run(command, shell=True, input=stdin, capture_output=True, timeout=300)
    assert done.stdout.count(b"\n") == 1 and b"Traceback" not in done.stderr and b"Broken" not in done.stderr


@pytest.mark.slow
def test_distil_and_shortlist(trained: Path, corpus: dict[str, str], tmp_path: Path) -> None:
    done = headcount(
        "distill", trained, "-o", tmp_path / "student", "--student",
        "tiny-student,d_model=16,head_size=8,encoder_layers=1,encoder_heads=2,cross_heads=2,ffn_size=16",
        "--train", corpus["train"], "--validation", corpus["validation"], "--best", "6",
        "--steps", "3", "--batch-tokens", "400", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    assert record["recipe"]["data"]["train"].endswith(
        "train.source," + str(tmp_path / "student.distilled/train.target")
    )
    student, tokenizer = load_translator(str(tmp_path / "student"))
    assert student.config.decoder_type == "ssru" and not student.config.dropout and not student.config.label_smoothing
    assert tokenizer.get_vocab() == load_translator(str(trained))[1].get_vocab()
    sides = [(tmp_path / "student.distilled" / f"train.{side}").read_text(encoding="utf-8").count("\n")
             for side in ("source", "target")]  # fmt: skip
    assert sides[0] == sides[1] == 95  # a twentieth is held out to follow the student by

    file = tmp_path / "lex.safetensors"
    done = headcount("shortlist", trained, "--train", corpus["train"], "-o", file, "--best", "5", "--frequent", "5")
    assert done.returncode == 0 and file.is_file(), done.stderr
    done = headcount("translate", tmp_path / "student", "--shortlist", file, stdin="Three apples.\n")
    assert done.returncode == 0 and done.stdout.count("\n") == 1, done.stderr
    done = headcount("shortlist", encoder_directory(), "--train", corpus["train"], "-o", tmp_path / "none")
    assert done.returncode == 1 and "Shortlists are for translation models of headcount's" in done.stderr
    done = headcount("translate", trained, "--shortlist", corpus["train"].split(",")[0], stdin="x\n")
    assert done.returncode == 1 and "Traceback" not in done.stderr and done.stderr.count("\n") <= 2


@pytest.mark.slow
def test_prune_and_evaluate(trained: Path, corpus: dict[str, str], tmp_path: Path) -> None:
    done = headcount(
        "prune", trained, "-o", tmp_path / "small", "--task", "translation", "--train", corpus["train"],
        "--validation", corpus["validation"], "--method", "michel", "--keep", "3", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    done = headcount(
        "evaluate", tmp_path / "small", "--task", "translation", "--validation", corpus["validation"], "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"] == record["metrics"]


def test_shapes_and_directories_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-student").mkdir()
    (tmp_path / "mine").mkdir()
    assert [new_shape(each) for each in ("tiny-student", "./tiny-student", "mine", "tiny-student,d_model=64")] == [
        "new:tiny-student", "./tiny-student", "mine", "new:tiny-student,d_model=64",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train-nmt", "tiny-student", "-o", "x", "--train", "a,b", "--validation", "a,b"], "No such file"),
        (["train-nmt", "tiny", "-o", "x", "--train", "a,b", "--validation", "a,b"], "Unknown shape 'tiny'"),
        (["train-nmt", "tiny-student", "-o", "x", "--train", "a,b", "--validation", "a,b", "--data", "coverage=much"],
         "Got data.coverage 'much'. Give a number above 0 and of at most 1."),
        (["translate", "nowhere"], "there is no directory 'nowhere'"),
        (["translate", "nowhere", "--beam", "0"], "Got beam 0. Give 1 or more."),
        (["translate", "nowhere", "--device", "abacus"], "This machine has no device 'abacus'"),
        (["translate", "nowhere", "--int8", "--device", "meta"], "Eight-bit products are for the CPU, got"),
        (["translate", "nowhere", "--shortlist", "none.st"], "none.st: cannot be read as a shortlist"),
        (["shortlist", "nowhere", "--train", "a,b", "-o", "."], "Output '.' is a directory. Name a file to write."),
        (["prune", "new:tiny-student", "-o", "x", "--task", "translation", "--train", "a,b", "--validation", "a,b",
          "--keep", "3", "--method", "michel", "--label", "y"], "Unknown key 'label' in [data]. Valid: train"),
        (["train-nmt", "tiny", "-o", "x", "--train", "a,b", "--validation", "a,b", "--training", "speed=3"],
         "Unknown key 'speed' in [training]. Valid: epochs, steps"),
        (["train-nmt", "tiny", "-o", "x", "--train", "a,b", "--validation", "a,b", "--training", "smoothing=abc"],
         "Got training.smoothing 'abc'. Give a number of at least 0 and below 1."),
        (["train-nmt", "tiny", "-o", "x", "--train", "a,b", "--validation", "a,b", "--training", "keep_best=maybe"],
         "Got training.keep_best 'maybe'. Give true or false."),
        (["train-nmt", "tiny", "-o", "x", "--train", "a,b", "--validation", "a,b", "--training", "judge_by=ter"],
         "Cannot judge by 'ter'. Valid: bleu, chrf, loss."),
        (["train-nmt", "tiny", "-o", "x", "--train", "a,b", "--validation", "a,b", "--languages", "de"],
         "Got --languages 'de'. Give 2 texts between commas."),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = headcount(*arguments, cwd=tmp_path)
    last = done.stderr.strip().split("\n")[-1]
    assert done.returncode == 1 and says in last and last.startswith("headcount: ")
    assert not list(tmp_path.iterdir())
