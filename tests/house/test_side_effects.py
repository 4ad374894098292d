"""Importing headcount, and pruning with it, replaces nothing in torch and transformers."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, types
import torch, transformers, transformers.modeling_utils, transformers.quantizers.auto, transformers.trainer
import transformers.models.bert.modeling_bert
from torch.nn import functional

MODULES = [torch, functional, torch.nn, torch.nn.Module, torch.nn.Linear, torch.Tensor, transformers.modeling_utils,
           transformers.modeling_utils.PreTrainedModel, transformers.configuration_utils.PreTrainedConfig,
           transformers.quantizers.auto, transformers.trainer.Trainer, transformers.models.bert.modeling_bert]
KINDS = (types.FunctionType, types.BuiltinFunctionType, type, classmethod, staticmethod, property)

def callables():
    return {(m.__name__, name): value for m in MODULES for name, value in vars(m).items() if isinstance(value, KINDS)}

def settings():
    return torch.get_float32_matmul_precision(), torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()

before, set_before = callables(), settings()
import headcount
{work}
after = callables()
changed = [name for name, value in before.items() if after.get(name) is not value]
assert not changed, changed
assert settings() == set_before
"""
PRUNE = """
from headcount.cli import app

app(sys.argv[1:], exit_on_error=False)
"""


def changes_nothing(work: str, *arguments: str) -> bool:
    program = [sys.executable, "-c", PROGRAM.replace("{work}", work), *arguments]
    done = subprocess.run(program, check=False, capture_output=True, text=True)
    return done.returncode == 0 or pytest.fail(done.stderr)


def test_importing_replaces_nothing() -> None:
    assert changes_nothing("import headcount.nmt, headcount.directory.plan, headcount.surgery.cut")


def test_pruning_replaces_nothing(tiny_bert_dir: Path, data: dict[str, str], tmp_path: Path) -> None:
    files = ["--train", data["train"], "--validation", data["validation"], "--steps", "2", "--development", "16"]
    how = ["--method", "random", "--keep", "4", "--output", str(tmp_path / "out")]
    assert changes_nothing(PRUNE, "prune", str(tiny_bert_dir), *how, *files)
    assert (tmp_path / "out" / "config.json").is_file()
