"""What the README says runs: its commands in a process, its Python in order, and its make targets exist."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, BertModel, Trainer, TrainingArguments

import headcount
import processes
from headcount.anatomy.example import random_inputs

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


EXPERIMENTS = (ROOT / "docs" / "experiments.md").read_text()


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


@pytest.fixture(scope="module")
def place(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what the README's user has: `my-encoder`, `train.tsv` and `validation.tsv`."""
    directory = tmp_path_factory.mktemp("user")
    config = BertConfig(
        vocab_size=len(tiny_tokenizer), hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(directory / "my-encoder")
    tiny_tokenizer.save_pretrained(directory / "my-encoder")
    rows = [
        "sentence\tlabel",
        *(f"{'good' if i % 2 else 'bad'} film {i}\t{i % 2}" for i in range(360)),
    ]  # a twentieth of them suffices to score heads on
    (directory / "train.tsv").write_text("\n".join(rows))
    (directory / "validation.tsv").write_text("\n".join(rows[:20]))
    for side, number in (("en", "number"), ("de", "Nummer")):
        lines = [f"{number} {i} {word}" for i in range(120) for word in ("a", "b")]
        (directory / f"train.{side}").write_text("\n".join(lines) + "\n")
        (directory / f"test.{side}").write_text("\n".join(lines[:6]) + "\n")
    grid = next(block for block in blocks("toml", EXPERIMENTS) if "[[grid]]" in block)
    small = re.sub(r"keep = .*", "keep = [4]", re.sub(r"seed = .*", "seed = 0", grid))
    (directory / "sweep.toml").write_text(small)
    return directory


def test_make_targets_exist() -> None:
    named = re.findall(r"^make (\w+)", README + (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert {"demo", "test"} <= set(named) and all(f"\n{target}:" in makefile for target in named)


def test_commands_and_python(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [line for block in blocks("console") for line in block.splitlines() if line.startswith("headcount ")]
    assert len(commands) >= 5
    for command in commands:
        command, _, source = command.partition(" < ")
        program, *arguments = command.split()
        if "test.en,test.de" in command:  # the real student, for a moment
            arguments += ["--steps", "2", *(["--vocabulary", "32"] if "train-nmt" in command else [])]
        stdin = (place / source).read_text() if source else ""
        if command == commands[0]:  # as it is installed
            script = [str(Path(sys.executable).parent / program), *arguments]
            ran = subprocess.run(script, cwd=place, capture_output=True, text=True)
        else:
            ran = processes.headcount(*arguments, stdin=stdin, cwd=place)
        assert ran.returncode == 0, f"{command}\n{ran.stderr}"
    monkeypatch.chdir(place)
    loading, loop, callback = blocks("python")
    loaded: dict[str, Any] = {}
    exec(loading, loaded)
    assert len(headcount.present(loaded["model"])) == 12
    model = BertForSequenceClassification.from_pretrained("my-encoder", num_labels=2)
    example = random_inputs(model)
    names = {
        "headcount": headcount,
        "model": model,
        "batches": [{**example, "labels": torch.tensor([0, 1])}] * 5,
        "optimizer": torch.optim.AdamW(model.parameters(), lr=1e-3),
    }
    exec(loop, names)
    again = BertForSequenceClassification.from_pretrained("smaller")
    assert len(headcount.present(again)) == 12
    assert torch.equal(again(**example).logits, model.eval()(**example).logits)
    rows = {name: values.tolist() * 5 for name, values in example.items()}
    own = {
        "headcount": headcount,
        "Trainer": Trainer,
        "model": BertForSequenceClassification.from_pretrained("my-encoder", num_labels=2),
        "data": Dataset.from_dict({**rows, "labels": [0, 1] * 5}),
        "arguments": TrainingArguments("own", use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True),
    }
    exec(callback, own)
    assert len(headcount.present(BertForSequenceClassification.from_pretrained("smallest"))) == 12
