"""The command line as a process: what it prints, what it writes, and its exit codes."""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from families import tiny
from headcount import cli
from processes import headcount


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    rows = ["sentence\tlabel", *(f"{'good' if i % 2 else 'bad'} film {i}\t{i % 2}" for i in range(40))]
    (directory / "train.tsv").write_text("\n".join(rows))
    (directory / "validation.tsv").write_text("\n".join(rows[:13]))
    (directory / "strange.tsv").write_text("sentence\tlabel\nodd film\t7\n")
    (directory / "empty.tsv").write_text("")
    (directory / "unlabelled.tsv").write_text("sentence\tlabel\na film\t\n")
    return directory


@pytest.fixture(scope="module")
def pruned(data: Path, tiny_bert_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "small"
    ran = headcount(
        "prune", tiny_bert_dir, "-o", out, "--train", data / "train.tsv", "--validation", data / "validation.tsv",
        "--keep", "3", "--method", "dsp-joint", "--epochs", "1", "--batch-size", "8", "--set", "cooldown=0.5",
        "--threads", "1", "--json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    record = json.loads(ran.stdout)
    assert sum(map(len, record["subset"].values())) == 3 and "dsp-joint(cooldown=0.5)|keep:3/8" in record["signature"]
    assert "8 heads in 2 sites; dsp-joint keeps 3" in ran.stderr
    return out


@pytest.mark.slow
def test_heads_before_and_after(tiny_bert_dir: Path, pruned: Path) -> None:
    before, after = (json.loads(headcount("heads", each, "--json").stdout) for each in (tiny_bert_dir, pruned))
    assert (before["kept"], after["kept"], after["heads"]) == (8, 3, 8)
    shown = headcount("heads", pruned)
    assert shown.returncode == 0 and f"per layer: {after['text']}" in shown.stdout and shown.stdout.count("■") == 3


@pytest.mark.slow
def test_evaluate_gives_the_records_figures(pruned: Path, data: Path) -> None:
    ran = headcount("evaluate", pruned, "--validation", data / "validation.tsv", "--json")
    record = json.loads((pruned / "headcount.json").read_text())
    assert json.loads(ran.stdout)["metrics"] == record["metrics"]
    assert "accuracy" in headcount("evaluate", pruned, "--validation", data / "validation.tsv").stdout


@pytest.mark.slow
def test_bench_compares(tiny_bert_dir: Path, pruned: Path) -> None:
    ran = headcount("bench", tiny_bert_dir, pruned, "--batch-size", 2, "--length", 16, "--rounds", 3, "--json")
    timings = json.loads(ran.stdout)["timings"]
    assert timings[0]["speedup"] == 1 and timings[1]["predicted_speedup"] > 1
    table = headcount("bench", tiny_bert_dir, pruned, "--batch-size", 2, "--length", 16, "--rounds", 3)
    assert "FLOPs predict" in table.stdout and "runtime" in table.stdout and "threads:1" in table.stdout


def prune_arguments(model: Any, data: Path, out: Path, **changes: Any) -> list[str]:
    options = {"train": data / "train.tsv", "validation": data / "validation.tsv", "keep": 3, "epochs": 1, **changes}
    return ["prune", str(model), "-o", str(out)] + [
        f"--{name.replace('_', '-')}={value}" for name, value in options.items()
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"keep": 9}, "Cannot keep 9 of 8 heads. Give a number from 0 to 8"),
        ({"keep": "lots"}, "Cannot read the budget 'lots'"),
        ({"method": "magic"}, "Unknown method 'magic'. Valid methods: dsp-joint, dsp-joint-short"),
        ({"set": "speed"}, "Write name=value"),
        ({"sites": "cross"}, "This model has no cross heads. It has: encoder"),
        ({"train": "missing.tsv"}, "missing.tsv"),
        ({"train": "empty.tsv"}, "empty.tsv"),
        ({"train": "unlabelled.tsv"}, "line 2"),
        ({"validation": "strange.tsv"}, "line 2: label '7' does not occur in the training data"),
        ({"threads": 0}, "Got threads 0"),
        ({"text": "title"}, "no column 'title'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(
    changes: dict[str, Any],
    says: str,
    tiny_bert_dir: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("train", "validation"):
        if name in changes:
            changes = {**changes, name: data / changes[name]}
    monkey = sys.argv
    sys.argv = ["headcount", *prune_arguments(tiny_bert_dir, data, tmp_path / "out", **changes)]
    try:
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    finally:
        sys.argv = monkey
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert exit_.value.code == 1 and error.startswith("headcount: ") and says in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_models_that_cannot_be_pruned(data: Path, tmp_path: Path, pruned: Path) -> None:
    ran = headcount(*prune_arguments(pruned, data, pruned))
    assert ran.returncode == 1 and "not empty. Name another directory" in ran.stderr and "Traceback" not in ran.stderr
    ran = headcount("heads", tmp_path)
    assert ran.returncode == 1 and "no config.json" in ran.stderr and len(ran.stderr.strip().splitlines()) == 1
    from transformers import XLNetConfig, XLNetModel

    XLNetModel(XLNetConfig(vocab_size=40, d_model=16, n_layer=1, n_head=2, d_inner=16)).save_pretrained(
        tmp_path / "xlnet"
    )
    ran = headcount("heads", tmp_path / "xlnet")
    assert ran.returncode == 1 and "XLNetRelativeAttention" in ran.stderr and "docs/add-a-family.md" in ran.stderr
    tiny("bert").save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "config.json").write_text("{")
    ran = headcount("heads", tmp_path / "bert")
    assert ran.returncode == 1 and "config.json: not JSON" in ran.stderr


def test_wrong_usage_is_exit_code_2() -> None:
    for arguments in (
        ["prune"],
        ["no-such-command"],
        ["bench"],
        ["bench", "m", "--keep", "1"],
        ["heads", "m", "--no-such-option"],
    ):
        assert headcount(*arguments).returncode == 2
    assert headcount("--help").returncode == 0


def test_the_version_is_the_packages() -> None:
    shown = headcount("--version")
    assert (shown.returncode, shown.stdout) == (0, f"headcount {version('headcount')}\n")
