"""One training by several processes: the same heads on all, and the same model as one process makes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from headcount.directory.model_files import load
from recipes import slow

RECIPE = """\
model = "{model}"
method = "{method}"
keep = 3

[data]
train = "{train}"
validation = "{validation}"
development = 16

[training]
epochs = 2
batch_size = {batch}
lr = 1e-3
looks = 2
checkpoint_every = 2
group_by_length = false  # it groups within batches of one device
"""


@pytest.fixture(scope="module")
def without_dropout(tiny_bert_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, with dropout off: its noise differs from process to process, as it should."""
    directory = tmp_path_factory.mktemp("no-dropout")
    for file in tiny_bert_dir.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(
        json.dumps(config | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    )
    return directory


def carry_out(processes: int, recipe: Path, output: Path, launcher: list[str]) -> dict[str, Any]:
    ended = subprocess.run(
        [*launcher, "-m", "headcount", "run", str(recipe), "-o", str(output), "--json", "--threads", "1"],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    shown: dict[str, Any] = json.loads(ended.stdout)  # one of them prints
    assert shown["machine"]["processes"] == processes
    return shown


@slow
@pytest.mark.parametrize("method", ["dsp-joint", "dsp-pipelined", "lottery"])
def test_two_processes_train_as_one_does(
    method: str, without_dropout: Path, data: dict[str, str], tmp_path: Path
) -> None:
    shown = {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Two ways to start the same: with `--cpu` accelerate would start one process, with this variable it starts two.
    accelerate = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", str(port)]
    torchrun = ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    many = [sys.executable, "-m", *(accelerate if method == "dsp-joint" else torchrun)]
    for processes, launcher in {1: [sys.executable], 2: many}.items():
        recipe = tmp_path / f"{processes}.toml"
        text = RECIPE.format(model=without_dropout, method=method, batch=16 // processes, **data)
        if method == "lottery":
            text += "[options]\nlate_reset = 2\niteration = 1\nheads_per_iteration = 3\n"
        recipe.write_text(text)
        shown[processes] = carry_out(processes, recipe, tmp_path / str(processes), launcher)
    one, two = shown[1], shown[2]
    assert one["subset"] == two["subset"] and one["metrics"] == pytest.approx(two["metrics"])
    assert {n: c["steps"] for n, c in one["costs"].items()} == {n: c["steps"] for n, c in two["costs"].items()}
    assert one["signature"] == two["signature"]
    looks = [[(look.get("kept"), look.get("temperature")) for look in each["dynamics"]] for each in (one, two)]
    assert looks[0] == looks[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "1.toml", "2", "2.toml"]
    weights = [load(tmp_path / str(n)).state_dict() for n in (1, 2)]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-3, atol=1e-4)
